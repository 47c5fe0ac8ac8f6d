package ext4

import (
	"io"
	"io/fs"
	"math"
	"sort"
	"strings"

	"banger/ext4/internal/disk"
)

// fileReader reads the content of a file. It is safe for concurrent use.
type fileReader struct {
	v      *volume
	size   int64
	m      *fileMap
	inline []byte // instead of m; zeros follow
}

// fileReader gives the content of a regular file, or that of a link in blocks. raw
// may be nil.
func (v *volume) fileReader(ino uint32, i *disk.Inode, raw []byte) (*fileReader, error) {
	if err := refused(i); err != nil {
		return nil, err
	}
	if i.Size > math.MaxInt64 {
		return nil, disk.Corrupt("inode %d has %d bytes", ino, i.Size)
	}
	r := &fileReader{v: v, size: int64(i.Size)}
	var err error
	if i.Flags&disk.InodeInlineData != 0 {
		r.inline, err = v.inlineContent(ino, i, raw)
	} else {
		r.m, err = v.fileMap(ino, i)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// Size is the length in bytes.
func (r *fileReader) Size() int64 { return r.size }

// ReadAt implements io.ReaderAt. Adjacent blocks are read at once, into p.
func (r *fileReader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	if off >= r.size {
		return 0, io.EOF
	}
	if int64(len(p)) > r.size-off {
		p, err = p[:r.size-off], io.EOF
	}
	if r.m == nil {
		n := 0
		if off < int64(len(r.inline)) {
			n = copy(p, r.inline[off:])
		}
		clear(p[n:])
		return len(p), err
	}
	bs := uint64(r.v.bs)
	extents := r.m.extents
	next := sort.Search(len(extents), func(k int) bool { return extents[k].End()*bs > uint64(off) })
	for n < len(p) {
		pos := uint64(off) + uint64(n)
		rest := p[n:]
		if next == len(extents) {
			clear(rest)
			return len(p), err
		}
		e := extents[next]
		if start := uint64(e.Logical) * bs; pos < start {
			rest = rest[:min(uint64(len(rest)), start-pos)]
			clear(rest)
			n += len(rest)
			continue
		}
		rest = rest[:min(uint64(len(rest)), e.End()*bs-pos)]
		if e.Unwritten {
			clear(rest)
		} else {
			in := pos - uint64(e.Logical)*bs
			if err := r.v.readData(rest, e.Physical+in/bs, int(in%bs)); err != nil {
				return n, err
			}
		}
		n += len(rest)
		next++
	}
	return n, err
}

// readData reads adjacent bytes of files: from byte at of a block on. They come
// straight from the image, but for blocks of the transaction or the journal.
func (v *volume) readData(p []byte, block uint64, at int) error {
	if v.journal == nil && len(v.dirty) == 0 {
		return v.readRaw(p, int64(block)*int64(v.bs)+int64(at))
	}
	newer := func(n uint64) bool {
		_, ok := v.dirty[n]
		return ok || v.journal != nil && v.journal.Has(n)
	}
	for len(p) > 0 {
		if newer(block) {
			b, err := v.block(block)
			if err != nil {
				return err
			}
			n := copy(p, b[at:])
			p, block, at = p[n:], block+1, 0
			continue
		}
		end := block + 1
		for (end-block)*uint64(v.bs) < uint64(len(p)+at) && !newer(end) {
			end++
		}
		n := int(min(uint64(len(p)), (end-block)*uint64(v.bs)-uint64(at)))
		if err := v.readRaw(p[:n], int64(block)*int64(v.bs)+int64(at)); err != nil {
			return err
		}
		p, block, at = p[n:], end, 0
	}
	return nil
}

// maxTarget is the longest target of a link in bytes; the kernel allows one block,
// and no path longer than maxPath.
const maxTarget = maxPath

// readLink returns the target of a symbolic link. It is never empty.
func (v *volume) readLink(ino uint32, i *disk.Inode, raw []byte) (string, error) {
	if !i.IsSymlink() {
		return "", fs.ErrInvalid
	}
	if err := refused(i); err != nil {
		return "", err
	}
	if i.Size == 0 || i.Size > maxTarget {
		return "", disk.Corrupt("the symbolic link %d has %d bytes", ino, i.Size)
	}
	var target string
	if v.fastLink(i) {
		target = string(i.Block[:i.Size])
	} else {
		r, err := v.fileReader(ino, i, raw)
		if err != nil {
			return "", err
		}
		b := make([]byte, i.Size)
		if _, err := r.ReadAt(b, 0); err != nil && err != io.EOF {
			return "", err
		}
		target = string(b)
	}
	if strings.IndexByte(target, 0) >= 0 {
		return "", disk.Corrupt("the target of the symbolic link %d has a zero byte", ino)
	}
	return target, nil
}

// fastLink says whether the target of a link is in i_block: if it has no blocks but
// that of its attributes. With ea_inode those may be many, and only the length
// tells (fs/ext4/inode.c, ext4_inode_is_fast_symlink).
func (v *volume) fastLink(i *disk.Inode) bool {
	if i.Size >= uint64(len(i.Block)) || i.Flags&(disk.InodeInlineData|disk.InodeExtents) != 0 {
		return false
	}
	if v.sb.FeatureIncompat&disk.IncompatEAInode != 0 {
		return true
	}
	attrs := uint64(0)
	if i.FileACL != 0 {
		attrs = uint64(v.bs/512) << v.clusterBits()
	}
	return i.Sectors == attrs
}

// clusterBits is the binary logarithm of blocks a cluster (bigalloc).
func (v *volume) clusterBits() uint32 {
	if v.sb.FeatureROCompat&disk.ROCompatBigalloc == 0 || v.sb.LogClusterSize < v.sb.LogBlockSize {
		return 0
	}
	return v.sb.LogClusterSize - v.sb.LogBlockSize
}
