package ext4

import (
	"io/fs"
	"time"

	"banger/ext4/internal/disk"
)

// Stat is what FileInfo.Sys of this package returns, as a *Stat: all that an inode
// says about its file. It is the caller's.
type Stat struct {
	Ino uint32
	// Mode is i_mode: the type in the upper four bits, set-user-ID, set-group-ID
	// and sticky bits, permissions (inode(7)).
	Mode     uint16
	UID, GID uint32
	// Links counts the names of the file. A directory with more than 65000 links
	// has 1 (feature dir_nlink).
	Links uint16
	// Size is the length of the content in bytes: of a file, of a directory's
	// blocks, of a link's target; 0 for all else.
	Size int64
	// Blocks is the space taken, in units of 512 bytes, as in stat(2): that of a file
	// inside its inode counts, too.
	Blocks uint64
	// Major and Minor are the device number of a character or block device.
	Major, Minor uint32
	// Times are in UTC. Crtime is zero (Time.IsZero) in inodes without room for it, of
	// 128 bytes, which also have whole seconds only.
	Atime, Mtime, Ctime, Crtime time.Time
	// Flags is i_flags as on the disk (Documentation/filesystems/ext4/inodes.rst).
	Flags uint32
	// Generation is i_generation, Projid the project of the quota.
	Generation uint32
	Projid     uint32
	// Target is that of a symbolic link. It is empty if the target cannot be read;
	// ReadLink says why.
	Target string

	v *volume
}

// Xattrs reads the extended attributes: names with their prefix ("user.x",
// "security.capability"), values as getxattr(2) gives them, so ACLs
// ("system.posix_acl_access", "system.posix_acl_default") in the form of the system
// calls, version 2. A file without any has an empty map, or nil. With an error,
// what could be read is in the map all the same. The image must still be readable.
func (s *Stat) Xattrs() (map[string][]byte, error) {
	i, raw, err := s.v.inode(s.Ino)
	if err != nil {
		return nil, public(err)
	}
	attrs, err := s.v.attrs(s.Ino, &i, raw)
	m := make(map[string][]byte, len(attrs))
	for _, a := range attrs {
		m[a.Name] = a.Value
	}
	return m, public(err)
}

// FileMode is Mode as package fs has it.
func (s *Stat) FileMode() fs.FileMode { return fileMode(s.Mode) }

// live reads an inode that a directory names: it must be in use, and of a known type.
func (v *volume) live(ino uint32) (i disk.Inode, raw []byte, err error) {
	i, raw, err = v.inode(ino)
	switch {
	case err != nil:
	case i.Links == 0:
		err = disk.Corrupt("inode %d has a name, but is free", ino)
	case disk.FileType(i.Mode) == disk.FTUnknown:
		err = disk.Corrupt("inode %d has the mode %#o, of no known type", ino, i.Mode)
	}
	return i, raw, err
}

// stat describes an inode.
func (v *volume) stat(ino uint32, i *disk.Inode, raw []byte) *Stat {
	s := &Stat{
		Ino: ino, Mode: i.Mode, UID: i.UID, GID: i.GID, Links: i.Links, Blocks: i.Sectors,
		Atime: utc(i.Atime), Mtime: utc(i.Mtime), Ctime: utc(i.Ctime),
		Flags: i.Flags, Generation: i.Generation, Projid: i.Projid, v: v,
	}
	if i.ExtraIsize >= 0x98-disk.MinInode {
		s.Crtime = utc(i.Crtime)
	}
	switch i.Mode & disk.ModeFmt {
	case disk.ModeRegular:
		s.Size = int64(i.Size &^ (1 << 63))
		if i.Flags&disk.InodeInlineData != 0 {
			s.Blocks += (i.Size + 511) / 512 // as the kernel does (ext4_file_getattr)
		}
	case disk.ModeDir:
		s.Size = int64(i.Size &^ (1 << 63))
	case disk.ModeSymlink:
		s.Size = int64(i.Size &^ (1 << 63))
		s.Target, _ = v.readLink(ino, i, raw)
	case disk.ModeChar, disk.ModeBlock:
		s.Major, s.Minor = i.Device()
	}
	return s
}

// fileInfo is the fs.FileInfo of a Stat.
type fileInfo struct {
	name string
	*Stat
}

func (i fileInfo) Name() string       { return i.name }
func (i fileInfo) Size() int64        { return i.Stat.Size }
func (i fileInfo) Mode() fs.FileMode  { return fileMode(i.Stat.Mode) }
func (i fileInfo) ModTime() time.Time { return i.Mtime }
func (i fileInfo) IsDir() bool        { return i.Stat.Mode&disk.ModeFmt == disk.ModeDir }
func (i fileInfo) Sys() any           { return i.Stat }
func (i fileInfo) String() string     { return fs.FormatFileInfo(i) }

func (v *volume) info(name string, ino uint32) (fileInfo, error) {
	i, raw, err := v.live(ino)
	if err != nil {
		return fileInfo{}, err
	}
	return fileInfo{name, v.stat(ino, &i, raw)}, nil
}

// fileMode converts i_mode.
func fileMode(mode uint16) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	if mode&0o4000 != 0 {
		m |= fs.ModeSetuid
	}
	if mode&0o2000 != 0 {
		m |= fs.ModeSetgid
	}
	if mode&0o1000 != 0 {
		m |= fs.ModeSticky
	}
	return m | typeMode(disk.FileType(mode))
}

// typeMode converts the type that a directory entry has.
func typeMode(ft uint8) fs.FileMode {
	switch ft {
	case disk.FTRegular:
		return 0
	case disk.FTDir:
		return fs.ModeDir
	case disk.FTChar:
		return fs.ModeDevice | fs.ModeCharDevice
	case disk.FTBlock:
		return fs.ModeDevice
	case disk.FTFIFO:
		return fs.ModeNamedPipe
	case disk.FTSocket:
		return fs.ModeSocket
	case disk.FTSymlink:
		return fs.ModeSymlink
	}
	return fs.ModeIrregular
}

func utc(t disk.Time) time.Time { return time.Unix(t.Sec, int64(t.Nsec)).UTC() }
