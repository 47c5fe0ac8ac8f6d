package ext4

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banger/internal/base/testneed"
)

// What the kernel here cannot mount is filled by mke2fs itself, which copies
// a tree without times of change and the order of numbers.
func TestReadWhatMke2fsWrote(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("making devices needs root")
	}
	source := filepath.Join(testneed.Memory(t), "source")
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	populate(t, source, "ext2-rev0")
	// mke2fs 1.47.0 cuts off a hole at the end, takes a link with two names for two, and
	// places attributes of such a size only with ea_inode.
	for _, name := range []string{"holes/farther", "holes/far", "holes/end", "holes/tree", "holes/allocated", "links/hard-soft", "xattrs/huge"} {
		os.Remove(filepath.Join(source, name))
	}
	want := comparable(kernelManifest(t, source))
	for _, kind := range []struct {
		name    string
		options []string
	}{
		{"8k", []string{"-t", "ext4", "-b", "8192"}},
		{"16k-inline", []string{"-t", "ext4", "-b", "16384", "-O", "inline_data"}},
		{"32k-ext2", []string{"-t", "ext2", "-b", "32768"}},
		{"64k", []string{"-t", "ext4", "-b", "65536"}},
		{"64k-ext3", []string{"-t", "ext3", "-b", "65536"}},
		{"64k-inline-ea_inode", []string{"-t", "ext4", "-b", "65536", "-O", "inline_data,ea_inode,large_dir"}},
		{"quota-project", []string{"-t", "ext4", "-O", "quota,project"}},
		{"casefold", []string{"-t", "ext4", "-O", "casefold"}},
		{"4k-2-inodes-of-1k", []string{"-t", "ext4", "-I", "1024"}},
	} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			options := append([]string{"-d", source}, kind.options...)
			path := newImage(t, "512M", options...)
			if kind.name == "casefold" {
				// Directories found through folded hashes: only the flag matters.
				for _, dir := range []string{"names", "dirs"} {
					testneed.Run(t, "debugfs", "-w", "-R", "sif "+dir+" flags 0x40080000", path)
				}
			}
			if kind.name != "casefold" && kind.name != "quota-project" { // mke2fs does not count what it copies
				testneed.Fsck(t, path)
			}
			want.compare(t, comparable(imageManifest(t, openImage(t, path), false)))
		})
	}
}

// comparable leaves out what mke2fs -d does not copy.
func comparable(m manifest) manifest {
	out := manifest{}
	for name, lines := range m {
		if name == "." {
			continue
		}
		for _, line := range lines {
			switch {
			case strings.HasPrefix(line, "mode"):
				line = line[:strings.Index(line, " ino")]
			case strings.HasPrefix(line, "times"):
				continue // it copies whole seconds
			case strings.HasPrefix(line, "size") && lineMode(lines)>>12 == 4:
				continue // of a directory, in blocks
			}
			out[name] = append(out[name], line)
		}
	}
	return out
}
