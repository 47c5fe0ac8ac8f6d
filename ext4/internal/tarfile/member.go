package tarfile

import "strings"

// member sets the entry from a member's header and what was said about it before,
// and the reader to the start of its data. The header must be the current block;
// it is gone once a sparse map is read.
func (r *Reader) member(flag byte, h *header) error {
	e := &r.entry
	*e = Entry{Type: flag}
	r.names(e, h)
	if err := r.owner(e, h); err != nil {
		return err
	}
	if err := r.timesOf(e, h); err != nil {
		return err
	}
	if e.Xattrs = r.local.xattrs; len(r.global.xattrs) > 0 {
		r.xattrs = mergeXattrs(r.xattrs[:0], r.global.xattrs, r.local.xattrs)
		e.Xattrs = r.xattrs
	}
	return r.contents(e, h, flag)
}

// names sets Name, Link and what of Type depends on the name.
func (r *Reader) names(e *Entry, h *header) {
	// A GNU long name is stronger than pax records, as in archive/tar.
	switch p := r.record(fieldPath); {
	case r.longName != "":
		e.Name = r.longName
	case p != nil:
		e.Name = p.path
	default:
		e.Name = h.name()
	}
	switch {
	case (e.Type == 0 || e.Type == TypeReg || e.Type == '7') && strings.HasSuffix(e.Name, "/"):
		e.Type = TypeDir // v7 has no other sign of directories
	case e.Type == 0, e.Type == '7', e.Type == 'S':
		e.Type = TypeReg
	}
	if e.Type == TypeLink || e.Type == TypeSymlink {
		switch p := r.record(fieldLink); {
		case r.longLink != "":
			e.Link = r.longLink
		case p != nil:
			e.Link = p.link
		default:
			e.Link = string(h.linkname())
		}
	}
}

// owner sets Mode, Uid, Gid and the device numbers. A header's field that a record
// overrides may hold anything: writers put there what fits.
func (r *Reader) owner(e *Entry, h *header) (err error) {
	if e.Mode, err = h.mode(); err != nil {
		return r.bad("mode of %.100q: %w", e.Name, err)
	}
	if p := r.record(fieldUid); p != nil {
		e.Uid = p.uid
	} else if e.Uid, err = h.uid(); err != nil {
		return r.bad("uid of %.100q: %w", e.Name, err)
	}
	if p := r.record(fieldGid); p != nil {
		e.Gid = p.gid
	} else if e.Gid, err = h.gid(); err != nil {
		return r.bad("gid of %.100q: %w", e.Name, err)
	}
	if (e.Type == TypeChar || e.Type == TypeBlock) && h.format() != formatV7 {
		if e.Major, err = h.major(); err != nil {
			return r.bad("device number of %.100q: %w", e.Name, err)
		}
		if e.Minor, err = h.minor(); err != nil {
			return r.bad("device number of %.100q: %w", e.Name, err)
		}
	}
	return nil
}

// timesOf sets the three times.
func (r *Reader) timesOf(e *Entry, h *header) (err error) {
	if p := r.record(fieldMtime); p != nil {
		e.Mtime = p.mtime
	} else if e.Mtime, err = h.mtime(); err != nil {
		return r.bad("mtime of %.100q: %w", e.Name, err)
	}
	if e.Atime, e.Ctime, err = h.times(); err != nil && h.format() != formatGNU {
		return r.bad("times of %.100q: %w", e.Name, err)
	} // else it is not times that a GNU header has there: see header.name
	if p := r.record(fieldAtime); p != nil {
		e.Atime = p.atime
	}
	if p := r.record(fieldCtime); p != nil {
		e.Ctime = p.ctime
	}
	return nil
}

// contents sets Size and Sparse, and how much data there is.
func (r *Reader) contents(e *Entry, h *header, flag byte) (err error) {
	var stored int64
	switch {
	case '1' <= flag && flag <= '6', flag == 0 && e.Type == TypeDir:
		// Whatever the size says: see Entry.Size.
	default:
		if p := r.record(fieldSize); p != nil {
			stored = p.size
		} else if stored, err = h.size(); err != nil {
			return r.bad("size of %.100q: %w", e.Name, err)
		}
	}
	r.padding = -stored & (blockSize - 1)
	if e.Type == TypeDir {
		// What a flag of a regular file announces is there, and nobody's.
		if err := r.src.skip(stored); err != nil {
			return r.cut(err)
		}
		stored = 0
	}
	e.Size, r.remaining = stored, stored
	if flag == 'S' {
		return r.oldSparse(e, h)
	}
	return r.sparseFile(e)
}
