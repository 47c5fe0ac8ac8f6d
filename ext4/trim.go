package ext4

import (
	"errors"

	"banger/ext4/internal/disk"
)

// Trim gives the space of f back that the file system does not use: its free
// blocks, the parts of inode tables that were never used, and the journal, which is empty.
// These become holes in f, where the host's file system has holes; the file
// system in f keeps its size and all its contents. freed is by how many bytes that
// made f smaller on the host, as far as the host says.
//
// The image must not be in use; see Edit, also for a journal that is dirty and for files
// that were deleted but still open. Of those in an image without a journal the
// space stays in use (ErrNoJournal).
//
// It can be interrupted at any time: only what nobody will read is touched.
func Trim(f File) (freed int64, err error) {
	length, err := fileLength(f)
	if err != nil {
		return 0, err
	}
	t, err := editSettled(f, length, nil)
	if err != nil {
		return 0, public(err)
	}
	defer t.Close()
	before := hostBytes(f)
	p := puncher{f: f, bs: int64(t.v.bs), length: length}
	if err := t.unusedBlocks(p.add); err != nil {
		return 0, public(err)
	}
	if err := p.flush(); err != nil {
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	return max(before-hostBytes(f), 0), nil
}

// editSettled begins a session in which nothing is left to commit: the journal is
// empty, and orphans are freed.
func editSettled(f File, length int64, o *EditOptions) (*Tx, error) {
	var options EditOptions
	if o != nil {
		options = *o
	}
	options.WithoutJournal = true
	t, err := Edit(f, length, &options)
	if err != nil {
		return nil, err
	}
	if len(t.v.dirty) == 0 {
		return t, nil
	}
	if t.journal == nil {
		return nil, errors.Join(ErrNoJournal, t.Close())
	}
	unlock := t.unlock
	t.unlock = func() {}
	err = t.Commit()
	if err == nil {
		t, err = Edit(f, length, &options)
	}
	if err != nil {
		unlock()
		return nil, err
	}
	if len(t.v.dirty) > 0 {
		t.Close()
		return nil, disk.Corrupt("its orphans cannot be freed")
	}
	return t, nil
}

// unusedBlocks calls f for all blocks, in runs, whose content has no meaning.
func (t *Tx) unusedBlocks(f func(start, n uint64) error) error {
	if t.journal != nil {
		if err := t.journalBody(f); err != nil {
			return err
		}
	}
	sb := t.v.sb
	for n := range t.v.groups {
		d, err := t.v.group(n)
		if err != nil {
			return err
		}
		if err := t.unusedInodes(&d, f); err != nil {
			return err
		}
		if d.FreeBlocks == 0 {
			continue
		}
		g, err := t.group(n)
		if err != nil {
			return err
		}
		delete(t.groups, n) // all of them would be as much as the bitmaps
		end := sb.GroupBlocks(n)
		for at := nextBit(g.busy, 0, end, false); at < end; {
			stop := nextBit(g.busy, at, end, true)
			if err := f(sb.GroupStart(n)+uint64(at), uint64(stop-at)); err != nil {
				return err
			}
			at = nextBit(g.busy, stop, end, false)
		}
	}
	return nil
}

// unusedInodes is unusedBlocks for whole blocks at the end of an inode table. Inodes that
// were never used are not read before they are zeroed, so they can be zeros
// (bg_itable_unused; Documentation/filesystems/ext4/group_descr.rst). Only descriptors
// with checksums count them.
func (t *Tx) unusedInodes(d *disk.Group, f func(start, n uint64) error) error {
	sb := t.v.sb
	if !t.hasGroupSums() {
		return nil
	}
	unused := d.ItableUnused
	if t.groupFlag(d, disk.GroupInodeUninit) {
		unused = sb.InodesPerGroup
	}
	if unused > sb.InodesPerGroup {
		return disk.Corrupt("%d unused inodes in a group of %d", unused, sb.InodesPerGroup)
	}
	bs := uint64(t.v.bs)
	first := (uint64(sb.InodesPerGroup-unused)*uint64(sb.InodeSize) + bs - 1) / bs
	if table := uint64(sb.InodeTableBlocks()); first < table {
		return f(d.InodeTable+first, table-first)
	}
	return nil
}

// journalBody is unusedBlocks for the journal: of one that is empty only the
// superblock, its first block, is read.
func (t *Tx) journalBody(f func(start, n uint64) error) error {
	ino := t.v.sb.JournalInum
	i, _, err := t.v.inode(ino)
	if err != nil {
		return err
	}
	m, err := t.v.fileMap(ino, &i)
	if err != nil {
		return err
	}
	for _, e := range m.extents {
		if e.Logical == 0 {
			e.Physical, e.Len = e.Physical+1, e.Len-1
		}
		if e.Len > 0 {
			if err := f(e.Physical, uint64(e.Len)); err != nil {
				return err
			}
		}
	}
	return nil
}

// puncher makes holes, joining those that touch.
type puncher struct {
	f          File
	bs         int64
	length     int64 // of f in bytes
	start, end uint64
}

func (p *puncher) add(start, n uint64) error {
	if start == p.end {
		p.end += n
		return nil
	}
	if err := p.flush(); err != nil {
		return err
	}
	p.start, p.end = start, start+n
	return nil
}

func (p *puncher) flush() error {
	off := int64(p.start) * p.bs
	n := min(int64(p.end)*p.bs, p.length) - off
	p.start, p.end = 0, 0
	if n <= 0 {
		return nil
	}
	return punch(p.f, off, n)
}
