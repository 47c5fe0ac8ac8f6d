package ext4

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"banger/ext4/internal/disk"
	"banger/ext4/internal/tarfile"
	"banger/ext4/internal/xattr"
)

// Tar adds the contents of a tar archive: v7, ustar, pax or GNU, with long names,
// times to the nanosecond, extended attributes and POSIX ACLs, device nodes, hard
// links (also before their target) and sparse files. It reads r to its end, which must be
// that of the archive: one that is cut off, or followed by anything but zeros, is refused.
//
// Names are taken from the root of the image on; parents that are links are followed
// inside it, missing ones are made (mode 0755). An entry replaces what it finds
// at its name, whatever that is, but a directory keeps the contents of a
// directory. Pax global headers, sockets, and attributes that a file of its type cannot
// have are left out. Refused, with the entry's name: "..", types that tar keeps for its
// own use, attributes of over 4 KiB on one file, more than 65,000 links to one
// file, links to nothing, sparse files in thousands of pieces of some bytes each.
func (b *Builder) Tar(r io.Reader) error {
	if b.err != nil {
		return b.err
	}
	b.begin(false)
	in := newIntake(r, &b.stage, b.space.take, b.charge)
	defer in.t.Close()
	for {
		r, err := in.next()
		if errors.Is(err, io.EOF) {
			return b.fail(b.end())
		}
		if err == nil && r != nil {
			err = b.entry(r)
		}
		if err != nil {
			return b.fail(err)
		}
	}
}

func (b *Builder) entry(r *record) error {
	if r.node != nil && r.node.more != nil && r.node.more.dir != nil {
		r.node.more.dir.self = r.node
	}
	if err := b.add(r); err != nil {
		return entryError(r.name, err)
	}
	return nil
}

// intake turns the entries of an archive into records, with their contents written.
type intake struct {
	t     *tarfile.Reader
	stage *stage
	take  func(blocks uint64) (span, error)
	keep  func(bytes int) error
	slab  []node
	rec   record
	file  fileWriter
	whole [1]tarfile.Run
}

func newIntake(r io.Reader, s *stage, take func(uint64) (span, error), keep func(int) error) *intake {
	return &intake{t: tarfile.NewReader(r), stage: s, take: take, keep: keep, file: fileWriter{stage: s}}
}

// next returns the next record, valid until the next call; nil for an entry that is
// left out; the error io.EOF at the end. Errors name the entry.
func (in *intake) next() (*record, error) {
	e, err := in.t.Next()
	if err != nil {
		return nil, err
	}
	if e.Mode&disk.ModeFmt == disk.ModeSocket {
		return nil, nil
	}
	in.rec = record{kind: e.Type, name: e.Name, link: e.Link}
	if e.Type != tarfile.TypeLink {
		n, err := in.node(e)
		if err != nil {
			return nil, entryError(e.Name, err)
		}
		in.rec.node = n
	}
	if err := in.keep(in.rec.memory()); err != nil {
		return nil, entryError(e.Name, err)
	}
	return &in.rec, nil
}

func (in *intake) node(e *tarfile.Entry) (*node, error) {
	if len(in.slab) == 0 {
		in.slab = make([]node, 256)
	}
	n := &in.slab[0]
	in.slab = in.slab[1:]
	n.mode, n.links, n.uid, n.gid = uint16(e.Mode&0o7777), 1, e.Uid, e.Gid
	n.mtime = disk.Time{Sec: e.Mtime.Sec, Nsec: e.Mtime.Nsec}.Clamp()
	if e.Atime.Set || e.Ctime.Set {
		m := n.rest()
		m.atime, m.ctime, m.times = n.mtime, n.mtime, true
		if e.Atime.Set {
			m.atime = disk.Time{Sec: e.Atime.Sec, Nsec: e.Atime.Nsec}.Clamp()
		}
		if e.Ctime.Set {
			m.ctime = disk.Time{Sec: e.Ctime.Sec, Nsec: e.Ctime.Nsec}.Clamp()
		}
	}
	switch e.Type {
	case tarfile.TypeReg:
		n.mode |= disk.ModeRegular
		if err := in.contents(n, e); err != nil {
			return nil, err
		}
	case tarfile.TypeDir:
		n.mode |= disk.ModeDir
		n.rest().dir = new(directory)
	case tarfile.TypeSymlink:
		if e.Link == "" || len(e.Link) > maxPath {
			return nil, fmt.Errorf("a link's target of %d bytes: 1 to %d can be", len(e.Link), maxPath)
		}
		n.mode = disk.ModeSymlink | 0o777
		n.rest().link = e.Link
		n.size = uint64(len(e.Link))
	case tarfile.TypeChar, tarfile.TypeBlock:
		n.mode |= disk.ModeChar
		if e.Type == tarfile.TypeBlock {
			n.mode = n.mode&^disk.ModeFmt | disk.ModeBlock
		}
		if e.Major >= 1<<12 || e.Minor >= 1<<20 {
			return nil, fmt.Errorf("the device number %d:%d is too large", e.Major, e.Minor)
		}
		n.size = uint64(e.Major)<<32 | uint64(e.Minor)
	case tarfile.TypeFifo:
		n.mode |= disk.ModeFIFO
	default:
		return nil, fmt.Errorf("its type %q is unknown", e.Type)
	}
	return n, in.attributes(n, e)
}

// inodeRoom is what our inodes have for attributes.
const inodeRoom = inodeSize - disk.MinInode - disk.ExtraIsize

func (in *intake) attributes(n *node, e *tarfile.Entry) error {
	if len(e.Xattrs) == 0 {
		return nil
	}
	attrs := make([]xattr.Attr, 0, len(e.Xattrs))
	for _, x := range e.Xattrs {
		attrs = append(attrs, xattr.Attr{Name: x.Name, Value: x.Value})
	}
	return n.setAttrs(attrs)
}

// setAttrs stores attributes in the form that the disk has them. Those that a file of
// its type cannot have are left out. An access ACL follows the mode, as it does where
// Docker and containerd unpack, which set the mode last.
func (n *node) setAttrs(attrs []xattr.Attr) error {
	known := slices.DeleteFunc(attrs, func(a xattr.Attr) bool { return !n.canHave(a) })
	if len(known) == 0 {
		return nil
	}
	for i := range known {
		if a := &known[i]; a.Name == accessACL {
			a.Value = bytes.Clone(a.Value)
			setACLMode(a.Value, n.mode)
		}
	}
	inode, block, err := xattr.Encode(known, inodeRoom, blockSize)
	if err != nil {
		return err
	}
	m := n.rest()
	m.attrs, m.attrBlock = inode, block
	return nil
}

// canHave says whether the kernel would set an attribute on a file of this type
// (xattr(7), acl(5)). An ACL that says no more than a mode, it does not keep.
func (n *node) canHave(a xattr.Attr) bool {
	kind := n.mode & disk.ModeFmt
	switch {
	case !hasNamespace(a.Name):
		return false
	case strings.HasPrefix(a.Name, "user."):
		return kind == disk.ModeRegular || kind == disk.ModeDir
	case a.Name == defaultACL:
		return kind == disk.ModeDir
	case a.Name == accessACL:
		_, keep, err := aclMode(a.Value)
		return kind != disk.ModeSymlink && (keep || err != nil)
	}
	return true
}

// hasNamespace says whether ext4 has a place for attributes of that name; others
// belong to other systems.
func hasNamespace(name string) bool {
	for _, prefix := range []string{"user.", "trusted.", "security."} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return name == accessACL || name == defaultACL
}

// contents gives a file its blocks and writes its data there.
func (in *intake) contents(n *node, e *tarfile.Entry) error {
	n.size = uint64(e.Size)
	runs := e.Sparse
	if runs == nil {
		in.whole[0].Length = e.Size
		runs = in.whole[:]
	}
	if err := checkPieces(runs); err != nil {
		return err
	}
	w := &in.file
	if err := w.open(n, runs, in.take); err != nil {
		return err
	}
	for _, r := range runs {
		for at, left := r.Offset, r.Length; left > 0; {
			b, err := in.t.Data(int(min(left, stageSize)))
			if err != nil {
				return err
			}
			if err := w.write(at, b); err != nil {
				return err
			}
			at, left = at+int64(len(b)), left-int64(len(b))
		}
	}
	return nil
}

// Each piece of a sparse file takes a block at least. GNU tar's are of 512 bytes or more,
// but for the last; a file with many that are shorter has been made to fill disks.
const (
	manyPieces = 1024
	tinyPiece  = 256 // bytes on average
)

func checkPieces(runs []tarfile.Run) error {
	if len(runs) <= manyPieces {
		return nil
	}
	var total int64
	for _, r := range runs {
		total += r.Length
	}
	if total/int64(len(runs)) < tinyPiece {
		return fmt.Errorf("a sparse file with %d bytes in %d pieces, which would take far more room than they have here", total, len(runs))
	}
	return nil
}
