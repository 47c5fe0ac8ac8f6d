package cli

import (
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"banger/ext4"
)

// at runs a system call on a name in an open directory.
func (c *copyOut) at(name string, call func(dir int, base string) error) error {
	d, err := c.to.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer d.Close()
	return call(int(d.Fd()), path.Base(name))
}

// owner is who a file belongs to on the host; ok says that it is to be set.
func (c *copyOut) owner(info fs.FileInfo) (uid, gid int, ok bool) {
	st := info.Sys().(*ext4.Stat)
	if !c.super {
		uid, gid = -1, -1
		if c.flags.uid.set {
			uid = int(c.flags.uid.id)
		}
		if c.flags.gid.set {
			gid = int(c.flags.gid.id)
		}
		return uid, gid, c.flags.uid.set || c.flags.gid.set
	}
	return int(c.flags.uid.or(st.UID)), int(c.flags.gid.or(st.GID)), true
}

// modeBits leaves out the set-user-ID and set-group-ID bits where the owner is not
// kept: they would mean somebody else.
func (c *copyOut) modeBits(info fs.FileInfo, m fs.FileMode) fs.FileMode {
	bits := m & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
	if m&0o7000 != 0 { // from a flag, in octal
		for octal, bit := range map[fs.FileMode]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
			if m&octal != 0 {
				bits |= bit
			}
		}
	}
	if !c.super && !c.flags.mode.set {
		bits &^= fs.ModeSetuid | fs.ModeSetgid
	}
	return bits
}

// finish gives an open file its owner, attributes and mode, in that order: chown clears
// set-user-ID bits and capabilities.
func (c *copyOut) finish(f *os.File, info fs.FileInfo, mode fs.FileMode) error {
	if uid, gid, ok := c.owner(info); ok {
		if err := f.Chown(uid, gid); err != nil {
			return hostError(err)
		}
	}
	attrs, err := info.Sys().(*ext4.Stat).Xattrs()
	if err != nil {
		return err
	}
	for name, value := range attrs {
		_ = unix.Fsetxattr(int(f.Fd()), name, value, 0) // kept where they can be
	}
	if err := f.Chmod(c.modeBits(info, mode)); err != nil {
		return hostError(err)
	}
	return nil
}

// times sets the times of a file, or of a link itself.
func (c *copyOut) times(name string, info fs.FileInfo) error {
	st := info.Sys().(*ext4.Stat)
	err := c.at(name, func(dir int, base string) error {
		ts := []unix.Timespec{unix.NsecToTimespec(0), unix.NsecToTimespec(0)}
		for i, t := range []struct{ sec, nsec int64 }{{st.Atime.Unix(), int64(st.Atime.Nanosecond())}, {st.Mtime.Unix(), int64(st.Mtime.Nanosecond())}} {
			ts[i].Sec, ts[i].Nsec = t.sec, t.nsec
		}
		return unix.UtimesNanoAt(dir, base, ts, unix.AT_SYMLINK_NOFOLLOW)
	})
	if err != nil {
		return hostError(&fs.PathError{Op: "chtimes", Path: c.hostPath(name), Err: err})
	}
	return nil
}
