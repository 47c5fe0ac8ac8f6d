package cli

import (
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"banger/internal/base/errs"
	"banger/internal/vm"
)

// diskNames are the disks of a VM, as users name them.
var diskNames = []string{"work", "system", "base"}

// diskRef is a DISK: an image file, or a disk of a VM.
type diskRef struct {
	file     string // or
	vm, name string
	// opened is the path of the image once it is open.
	opened string
}

// String is the disk as the user wrote it.
func (r diskRef) String() string {
	if r.file != "" {
		return r.file
	}
	return r.vm + ":" + r.name
}

const diskHint = "name an image file, or a disk of a VM: VM:work, VM:system or VM:base"

// splitDisk reads DISK or DISK:PATH, in the order that diskHelp tells. ok is false if
// the argument is neither.
func splitDisk(arg string) (ref diskRef, inside string, joined, ok bool) {
	if isImageFile(arg) {
		return diskRef{file: arg}, "", false, true
	}
	for i := range len(arg) {
		if arg[i] == ':' && isImageFile(arg[:i]) {
			return diskRef{file: arg[:i]}, arg[i+1:], true, true
		}
	}
	name, rest, found := strings.Cut(arg, ":")
	if _, err := vm.ParseName(name); err != nil || !found {
		return diskRef{}, "", false, false
	}
	disk, inside, joined := strings.Cut(rest, ":")
	if !slices.Contains(diskNames, disk) {
		return diskRef{}, "", false, false
	}
	return diskRef{vm: name, name: disk}, inside, joined, true
}

// isImageFile says whether a file exists that can hold a file system.
func isImageFile(name string) bool {
	info, err := os.Stat(name)
	if err != nil {
		return false
	}
	kind := info.Mode().Type()
	return kind == 0 || kind == fs.ModeDevice
}

// parseDisk is splitDisk with an error for what is no disk.
func parseDisk(arg string) (ref diskRef, inside string, joined bool, err error) {
	ref, inside, joined, ok := splitDisk(arg)
	if ok {
		return ref, inside, joined, nil
	}
	if info, err := os.Stat(arg); err == nil {
		kind := "a directory"
		if !info.IsDir() {
			kind = "neither a regular file nor a block device"
		}
		return ref, "", false, errs.New(errs.Invalid, "%q is %s", arg, kind).WithHint("%s", diskHint)
	}
	name, rest, found := strings.Cut(arg, ":")
	if _, err := vm.ParseName(name); err == nil && found {
		disk, _, _ := strings.Cut(rest, ":")
		return ref, "", false, errs.New(errs.NotFound, "there is no image file %q, and a VM has no disk %q", name, disk).WithHint("%s", diskHint)
	}
	return ref, "", false, errs.New(errs.NotFound, "there is no image file %q", arg).WithHint("%s", diskHint)
}

// oneDisk reads DISK alone.
func oneDisk(arg string) (diskRef, error) {
	ref, inside, joined, err := parseDisk(arg)
	if err == nil && joined {
		err = errs.New(errs.Invalid, "%q is a path on the disk %q; the whole disk is wanted", inside, ref).WithHint("write %s alone", ref)
	}
	return ref, err
}

// diskPaths reads DISK PATH…, or DISK:PATH… where each names the same disk. The
// paths are as the user wrote them.
func diskPaths(args []string) (ref diskRef, paths []string, err error) {
	ref, inside, joined, err := parseDisk(args[0])
	if err != nil {
		return ref, nil, err
	}
	if joined {
		paths = append(paths, inside)
	}
	for _, arg := range args[1:] {
		if joined {
			other, inside, again, ok := splitDisk(arg)
			if !ok || !again || other != ref {
				return ref, nil, errs.New(errs.Invalid, "%q is not a path on the disk %q", arg, ref).
					WithHint("give the disk once and then the paths, %s PATH…, or with every path, %s:PATH…", ref, ref)
			}
			paths = append(paths, inside)
			continue
		}
		if arg == "" {
			return ref, nil, errs.New(errs.Invalid, "a path is empty").WithHint("write / for the root of the disk")
		}
		paths = append(paths, arg)
	}
	for _, p := range paths {
		if strings.IndexByte(p, 0) >= 0 {
			return ref, nil, errs.New(errs.Invalid, "a path has a NUL byte")
		}
	}
	return ref, paths, nil
}

// cleanPath is a path in an image from its root on, "/" for the root itself.
func cleanPath(p string) string { return path.Clean("/" + p) }

// fsPath is a path as package fs, and ext4.Image, have it.
func fsPath(p string) string {
	if p = cleanPath(p)[1:]; p == "" {
		return "."
	}
	return p
}
