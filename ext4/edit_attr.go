package ext4

import (
	"io/fs"
	"time"
)

// Chmod sets the permissions and the setuid, setgid and sticky bits of a file,
// following links, and those of its access ACL with them. The type never changes,
// whatever mode says.
func (t *Tx) Chmod(path string, mode fs.FileMode) error {
	return t.do("chmod", path, func() error {
		n, err := t.existing(path, true)
		if err != nil {
			return err
		}
		if err := t.setMode(n, modeBits(mode)); err != nil {
			return err
		}
		n.Ctime = t.now()
		return t.put(n)
	})
}

// SetOwner sets the owner and the group of a file; a link at the end of the path is
// not followed. Unlike chown(2) it leaves the setuid and setgid bits and
// security.capability.
func (t *Tx) SetOwner(path string, uid, gid uint32) error {
	return t.do("chown", path, func() error {
		n, err := t.existing(path, false)
		if err != nil {
			return err
		}
		n.UID, n.GID = uid, gid
		n.Ctime = t.now()
		return t.put(n)
	})
}

// SetTimes sets the times of a file, 1901 to 2446 with nanoseconds (to 2038 and in
// seconds in inodes of 128 bytes); others become the nearest. A zero time leaves the one
// that is there. A link at the end of the path is not followed.
func (t *Tx) SetTimes(path string, accessed, modified time.Time) error {
	return t.do("chtimes", path, func() error {
		n, err := t.existing(path, false)
		if err != nil {
			return err
		}
		n.setTimes(&Attr{ModTime: modified, AccessTime: accessed})
		n.Ctime = t.now()
		return t.put(n)
	})
}
