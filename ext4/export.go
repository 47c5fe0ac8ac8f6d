package ext4

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"banger/ext4/internal/disk"
	"banger/ext4/internal/xattr"
)

// ExportOptions say what ExportTree writes. The zero value is the whole image.
type ExportOptions struct {
	// Root is the directory to export, following links; names in the archive are
	// relative to it. "" and "." are the image's root.
	Root string
	// Skip is asked about what cannot be written: sockets, which tar does not know
	// (errors.Is finds errors.ErrUnsupported), encrypted files (FeatureError), and what
	// is damaged (ErrCorrupt). If it returns nil, the export goes on without; of
	// damaged attributes, or a damaged directory, with what could be read. Else it
	// ends with that error. A nil Skip leaves sockets out and ends at all else.
	Skip func(name string, err error) error
}

// ExportTar writes the whole image as a tar archive: ExportTree without options.
func (im *Image) ExportTar(w io.Writer) error { return im.ExportTree(w, ExportOptions{}) }

// ExportTree writes a directory and all below it as a tar archive in the pax format.
// The same content gives the same archive: members are sorted by name, each directory
// before what is in it; the first one is "./". They carry type, permissions, numeric
// owners, the time of modification in nanoseconds, device numbers, extended
// attributes and ACLs as records SCHILY.xattr.*, and holes as GNU's sparse format
// 1.0. Of a file with several names the first is the file, the others
// are links to it. Times of access and change are not in it.
//
// Memory: the directories on the way to the current one, and some hundred bytes
// for each file with several links. An error may leave part of an archive in w.
func (im *Image) ExportTree(w io.Writer, o ExportOptions) error {
	if o.Root == "" {
		o.Root = "."
	}
	ino, err := im.resolve(o.Root, true)
	if err != nil {
		return pathError("export", o.Root, err)
	}
	x := &exporter{v: im.v, o: o, tar: newTarWriter(w), links: make(map[uint32]*linked)}
	defer x.tar.free()
	x.bound(im.size)
	i, raw, err := im.v.live(ino)
	if err == nil && !i.IsDir() {
		err = errNotDir
	}
	if err != nil {
		return pathError("export", o.Root, err)
	}
	x.seen.add(ino)
	if err := x.directory("", ino, &i, raw); err != nil {
		return err
	}
	return x.tar.close()
}

type exporter struct {
	v     *volume
	o     ExportOptions
	tar   *tarWriter
	links map[uint32]*linked
	seen  inodeSet
	// blocks and attrs are how many blocks of content, and bytes of attributes, may
	// still come: those of a sound image are bounded by its size.
	blocks, attrs uint64
}

// linked is a file of which more names are to come.
type linked struct {
	name string
	left uint16
}

// bound keeps a small image with much shared in it from becoming an archive without
// end. Attributes may be shared, by the kernel by up to 1024 files.
func (x *exporter) bound(size int64) {
	x.blocks = min(x.v.sb.Blocks(), uint64(size)/uint64(x.v.bs)+1)
	x.attrs = x.blocks*uint64(x.v.bs)*16 + maxAttrs
	const sharedBlocks = 0x4000 // ro_compat: read-only images of Android
	if x.v.sb.FeatureROCompat&sharedBlocks != 0 {
		x.blocks *= 64
	}
}

var errSocket = fmt.Errorf("tar has no sockets: %w", errors.ErrUnsupported)

// skip asks what to do about an error.
func (x *exporter) skip(name string, err error) error {
	if err == nil {
		return nil
	}
	if name == "" {
		name = "."
	}
	if x.tar.err != nil {
		return x.tar.err // not the image's fault
	}
	if x.o.Skip == nil {
		if err == errSocket {
			return nil
		}
		return pathError("export", name, err)
	}
	return x.o.Skip(name, pathError("export", name, err))
}

// maxExportName bounds names in the archive, in bytes.
const maxExportName = 64 << 10

// directory writes a directory, whose name ends in a slash, or is empty for the top,
// and what is in it.
func (x *exporter) directory(name string, ino uint32, i *disk.Inode, raw []byte) error {
	m, err := x.member(name, ino, i, raw)
	if err != nil {
		return err
	}
	m.typ = tarDir
	if name == "" {
		m.name = "./"
	}
	if err := x.tar.header(m); err != nil {
		return err
	}
	if err := refused(i); err != nil {
		return x.skip(name, err)
	}
	if err := x.spend(ino, i); err != nil {
		return x.skip(name, err)
	}
	list, err := x.v.readDir(ino)
	if err := x.skip(name, err); err != nil {
		return err
	}
	for k, e := range list {
		list[k] = nil // what is done needs no memory while its neighbours are
		if err := x.entry(name, ino, e.(*dirEntry)); err != nil {
			return err
		}
	}
	return nil
}

func (x *exporter) entry(parent string, in uint32, e *dirEntry) error {
	name := parent + e.name
	if len(name) > maxExportName {
		return x.skip(name, errTooLong)
	}
	i, raw, err := x.v.live(e.ino)
	if err != nil {
		return x.skip(name, err)
	}
	if i.IsDir() {
		err := x.v.checkParent(e.ino, &i, in)
		if _, ok := errors.AsType[*fileFeatureError](err); ok {
			err = nil // its name is still good
		}
		if err == nil && !x.seen.add(e.ino) {
			err = disk.Corrupt("directory %d has two names", e.ino)
		}
		if err != nil {
			return x.skip(name, err)
		}
		return x.directory(name+"/", e.ino, &i, raw)
	}
	if l := x.links[e.ino]; l != nil {
		return x.link(name, l, e.ino, &i)
	}
	if !x.seen.add(e.ino) {
		return x.skip(name, disk.Corrupt("inode %d has more names than links", e.ino))
	}
	return x.file(name, e.ino, &i, raw)
}

// link writes a further name of a file.
func (x *exporter) link(name string, l *linked, ino uint32, i *disk.Inode) error {
	m := &member{typ: tarLink, name: name, link: l.name, mode: uint32(i.Mode & 0o7777), uid: i.UID, gid: i.GID, mtime: i.Mtime}
	if l.left--; l.left == 0 {
		delete(x.links, ino)
	}
	return x.tar.header(m)
}

// file writes the first name of what is no directory.
func (x *exporter) file(name string, ino uint32, i *disk.Inode, raw []byte) error {
	var content *fileReader
	m, err := x.member(name, ino, i, raw)
	if err != nil {
		return err
	}
	switch disk.FileType(i.Mode) {
	case disk.FTRegular:
		m.typ = tarRegular
		if content, err = x.v.fileReader(ino, i, raw); err == nil {
			err = x.spend(ino, i)
		}
	case disk.FTSymlink:
		m.typ = tarSymlink
		m.link, err = x.v.readLink(ino, i, raw)
	case disk.FTChar:
		m.typ = tarChar
		m.major, m.minor = i.Device()
	case disk.FTBlock:
		m.typ = tarDevice
		m.major, m.minor = i.Device()
	case disk.FTFIFO:
		m.typ = tarFIFO
	default:
		err = errSocket
	}
	if err != nil {
		return x.skip(name, err)
	}
	if content == nil {
		err = x.tar.header(m)
	} else {
		err = x.content(m, content)
	}
	if err == nil && i.Links > 1 {
		x.links[ino] = &linked{name, i.Links - 1}
	}
	return err
}

// member fills in what all types have.
func (x *exporter) member(name string, ino uint32, i *disk.Inode, raw []byte) (*member, error) {
	m := &member{name: name, mode: uint32(i.Mode & 0o7777), uid: i.UID, gid: i.GID, mtime: i.Mtime}
	attrs, err := x.v.attrs(ino, i, raw)
	size := uint64(0)
	for _, a := range attrs {
		size += uint64(len(a.Name) + len(a.Value))
	}
	if size > x.attrs {
		attrs, err = nil, disk.Corrupt("the files have more attributes than fit into the image")
	} else {
		x.attrs -= size
	}
	// Where they lie on the disk is no content.
	slices.SortFunc(attrs, func(a, b xattr.Attr) int { return strings.Compare(a.Name, b.Name) })
	m.attrs = attrs
	return m, x.skip(name, err)
}

// spend counts the blocks of a file.
func (x *exporter) spend(ino uint32, i *disk.Inode) error {
	if i.Flags&disk.InodeInlineData != 0 {
		return nil
	}
	m, err := x.v.fileMap(ino, i)
	if err != nil {
		return err
	}
	for _, e := range m.extents {
		n := uint64(e.Len)
		if n > x.blocks {
			return disk.Corrupt("the files have more blocks than the image, at inode %d", ino)
		}
		x.blocks -= n
	}
	return nil
}

// content writes a regular file.
func (x *exporter) content(m *member, r *fileReader) error {
	regions, head := r.sparse()
	if head == nil {
		m.size = r.size
		regions = []region{{0, r.size}}
	} else {
		m.sparse, m.realSize, m.size = true, r.size, int64(len(head))
		for _, g := range regions {
			m.size += g.length
		}
	}
	if err := x.tar.header(m); err != nil {
		return err
	}
	x.tar.write(head)
	for _, g := range regions {
		// The header is written: there is no way to go on without the file.
		if err := x.tar.copyFrom(r, g.offset, g.length); err != nil {
			if x.tar.err != nil {
				return x.tar.err
			}
			return pathError("export", m.name, err)
		}
	}
	x.tar.pad(m.size)
	return x.tar.err
}

// region is a part of a file, in bytes.
type region struct{ offset, length int64 }

// maxRegions bounds the map of a sparse file; above it small holes are
// written as zeros.
const maxRegions = 1 << 20

// sparse lists the regions of a file that hold data, and the map that says so in the
// archive, as long as some blocks of it. head is nil where holes would save nothing.
func (r *fileReader) sparse() (regions []region, head []byte) {
	for least := int64(1); ; least *= 2 {
		regions = r.regions(regions[:0], least)
		if len(regions) <= maxRegions {
			break
		}
	}
	stored := int64(0)
	for _, g := range regions {
		stored += g.length
	}
	// The records cost two blocks, the map one or more.
	if stored+3*tarBlock >= r.size {
		return nil, nil
	}
	// GNU tar marks the end of a file that ends in a hole by an empty region.
	all := regions
	if n := len(all); n == 0 || all[n-1].offset+all[n-1].length < r.size {
		all = append(all[:n:n], region{r.size, 0})
	}
	head = append(strconv.AppendInt(nil, int64(len(all)), 10), '\n')
	for _, g := range all {
		head = append(strconv.AppendInt(head, g.offset, 10), '\n')
		head = append(strconv.AppendInt(head, g.length, 10), '\n')
	}
	head = append(head, tarZeros[:-len(head)&(tarBlock-1)]...)
	if stored+int64(len(head))+2*tarBlock >= r.size {
		return nil, nil
	}
	return regions, head
}

// regions appends the regions of data, those with less than least bytes between
// them as one.
func (r *fileReader) regions(list []region, least int64) []region {
	if r.m == nil {
		return append(list, region{0, int64(len(r.inline))})
	}
	bs := int64(r.v.bs)
	for _, e := range r.m.extents {
		start := int64(e.Logical) * bs
		if e.Unwritten || start >= r.size {
			continue
		}
		end := min(int64(e.End())*bs, r.size)
		if n := len(list); n > 0 && start-list[n-1].offset-list[n-1].length < least {
			list[n-1].length = end - list[n-1].offset
			continue
		}
		list = append(list, region{start, end - start})
	}
	return list
}

// inodeSet is a set of inode numbers: a bitmap in pieces.
type inodeSet struct{ pieces map[uint32]*[512]byte }

// add says whether the number is new.
func (s *inodeSet) add(ino uint32) bool {
	if s.pieces == nil {
		s.pieces = make(map[uint32]*[512]byte)
	}
	p := s.pieces[ino>>12]
	if p == nil {
		p = new([512]byte)
		s.pieces[ino>>12] = p
	}
	bit := byte(1) << (ino & 7)
	if p[ino>>3&511]&bit != 0 {
		return false
	}
	p[ino>>3&511] |= bit
	return true
}
