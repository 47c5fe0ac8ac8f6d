package ext4

import (
	"io/fs"
	"syscall"

	"banger/ext4/internal/disk"
)

// systemSource reads what package os has.
func systemSource(info fs.FileInfo) (src source) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return src
	}
	src = source{uid: s.Uid, gid: s.Gid, times: true, atime: timespec(s.Atim), ctime: timespec(s.Ctim), mtime: timespec(s.Mtim)}
	// makedev(3): the major number in bits 8 to 19 and 32 on, the minor in the rest.
	dev := uint64(s.Rdev) //nolint:unconvert // not 64 bits everywhere
	src.major = uint32(dev>>8&0xfff | dev>>32&^0xfff)
	src.minor = uint32(dev&0xff | dev>>12&^0xff)
	if s.Nlink > 1 {
		src.id = fileID{dev: uint64(s.Dev), ino: s.Ino} //nolint:unconvert // as above
	}
	return src
}

func timespec(t syscall.Timespec) disk.Time {
	return disk.Time{Sec: int64(t.Sec), Nsec: uint32(t.Nsec)}.Clamp() //nolint:unconvert // as above
}
