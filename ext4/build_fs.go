package ext4

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"banger/ext4/internal/disk"
	"banger/ext4/internal/tarfile"
	"banger/ext4/internal/xattr"
)

// FS adds the tree of a file system. Symbolic links are taken as such if it is an
// fs.ReadLinkFS, and are an error if not. Owners, times, devices, hard links and
// extended attributes come from FileInfo.Sys where that is a *Stat of this package,
// or, on Linux, a *syscall.Stat_t (which has no attributes); else the owner is root
// and the time ModTime. Sockets are left out.
func (b *Builder) FS(fsys fs.FS) error {
	if b.err != nil {
		return b.err
	}
	b.begin(false)
	w := fsIntake{b: b, fsys: fsys, seen: map[fileID]string{}, file: fileWriter{stage: &b.stage}}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := w.add(name, d); err != nil {
			return entryError(name, err)
		}
		return nil
	})
	if err == nil {
		err = b.end()
	}
	return b.fail(err)
}

// fileID tells the files of the source apart, for hard links.
type fileID struct{ dev, ino uint64 }

// source is what FileInfo.Sys says of a file.
type source struct {
	uid, gid     uint32
	atime, ctime disk.Time
	mtime        disk.Time
	times        bool
	major, minor uint32
	id           fileID // zero unless there are several links
	attrs        []xattr.Attr
}

type fsIntake struct {
	b    *Builder
	fsys fs.FS
	seen map[fileID]string
	file fileWriter
}

func (w *fsIntake) add(name string, d fs.DirEntry) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	src, err := sourceOf(info)
	if err != nil {
		return err
	}
	if src.id != (fileID{}) && !info.IsDir() {
		if first, ok := w.seen[src.id]; ok {
			return w.b.add(&record{kind: tarfile.TypeLink, name: name, link: first})
		}
		w.seen[src.id] = name
	}
	mode := info.Mode()
	n := w.b.newNode()
	n.links, n.uid, n.gid, n.mtime = 1, src.uid, src.gid, diskTime(info.ModTime())
	n.mode = uint16(mode.Perm())
	for _, bit := range []struct {
		is  fs.FileMode
		set uint16
	}{{fs.ModeSetuid, 0o4000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSticky, 0o1000}} {
		if mode&bit.is != 0 {
			n.mode |= bit.set
		}
	}
	if src.times {
		n.mtime = src.mtime
		m := n.rest()
		m.times, m.atime, m.ctime = true, src.atime, src.ctime
	}
	r := record{kind: tarfile.TypeReg, name: name, node: n}
	switch mode.Type() {
	case 0:
		n.mode |= disk.ModeRegular
		n.size = uint64(info.Size())
		if err := w.contents(name, n); err != nil {
			return err
		}
	case fs.ModeDir:
		n.mode |= disk.ModeDir
		n.rest().dir = &directory{self: n}
		r.kind = tarfile.TypeDir
	case fs.ModeSymlink:
		target, err := fs.ReadLink(w.fsys, name)
		if err != nil {
			return err
		}
		if target == "" || len(target) > maxPath {
			return fmt.Errorf("a link's target of %d bytes: 1 to %d can be", len(target), maxPath)
		}
		n.mode = disk.ModeSymlink | 0o777
		n.rest().link, n.size = target, uint64(len(target))
		r.kind = tarfile.TypeSymlink
	case fs.ModeNamedPipe:
		n.mode |= disk.ModeFIFO
		r.kind = tarfile.TypeFifo
	case fs.ModeDevice, fs.ModeDevice | fs.ModeCharDevice:
		n.mode |= disk.ModeBlock
		if mode&fs.ModeCharDevice != 0 {
			n.mode = n.mode&^disk.ModeFmt | disk.ModeChar
		}
		n.size = uint64(src.major)<<32 | uint64(src.minor)
		r.kind = tarfile.TypeChar
	case fs.ModeSocket:
		return nil
	default:
		return fmt.Errorf("its type %s is unknown", mode.Type())
	}
	if err := n.setAttrs(src.attrs); err != nil {
		return err
	}
	if err := w.b.charge(r.memory()); err != nil {
		return err
	}
	return w.b.add(&r)
}

// contents copies a file of which the size is known.
func (w *fsIntake) contents(name string, n *node) error {
	f, err := w.fsys.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	size := int64(n.size)
	if err := w.file.open(n, []tarfile.Run{{Length: size}}, w.b.space.take); err != nil {
		return err
	}
	buf := make([]byte, min(size+1, bigWrite))
	for at := int64(0); ; {
		got, err := f.Read(buf)
		if at+int64(got) > size {
			return fmt.Errorf("%s grew while it was read", path.Base(name))
		}
		if err := w.file.write(at, buf[:got]); err != nil {
			return err
		}
		at += int64(got)
		if errors.Is(err, io.EOF) {
			if at != size {
				return fmt.Errorf("%s shrank while it was read", path.Base(name))
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}
