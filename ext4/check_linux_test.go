package ext4

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banger/internal/base/testneed"
)

// checkClean wants us to find nothing where e2fsck finds nothing.
func checkClean(t *testing.T, path string) {
	t.Helper()
	if damaged, out := complains(t, path); damaged {
		t.Fatalf("e2fsck: %s", out)
	}
	r, err := openImage(t, path).Check(t.Context())
	if err != nil || !r.OK() {
		t.Errorf("%v\n%v", err, r)
	}
}

// What mke2fs made and the kernel filled has no problem.
func TestCheckWhatTheKernelWrote(t *testing.T) {
	t.Parallel()
	more := append(readerImages, []struct {
		name, size string
		options    []string
	}{
		{"quota-project", "64M", []string{"-t", "ext4", "-O", "quota,project"}},
		{"casefold", "64M", []string{"-t", "ext4", "-O", "casefold"}},
		{"bigalloc-2k", "512M", []string{"-t", "ext4", "-b", "2048", "-O", "bigalloc", "-C", "8192"}},
		{"bigalloc-1k", "512M", []string{"-t", "ext4", "-b", "1024", "-O", "bigalloc", "-C", "8192"}},
		{"bigalloc-1k-meta_bg", "512M", []string{"-t", "ext4", "-b", "1024", "-O", "bigalloc,meta_bg,^resize_inode", "-C", "4096"}},
		{"uninit_bg-1k", "256M", []string{"-t", "ext4", "-b", "1024", "-O", "^metadata_csum,uninit_bg"}},
		{"no-journal", "64M", []string{"-t", "ext4", "-O", "^has_journal"}},
		{"desc-128", "64M", []string{"-t", "ext4", "-b", "1024", "-E", "desc_size=128"}},
		{"64k", "256M", []string{"-t", "ext4", "-b", "65536"}},
		{"last-group-short", "8300K", []string{"-t", "ext4", "-b", "1024"}},
		{"metadata-in-place", "256M", []string{"-t", "ext4", "-b", "1024", "-O", "^flex_bg"}},
	}...)
	for _, kind := range more {
		t.Run(kind.name, func(t *testing.T) {
			options := kind.options
			hash := slices.Index(options, "-E")
			if hash >= 0 && strings.HasPrefix(options[hash+1], "hash_alg") {
				options = slices.Delete(slices.Clone(options), hash, hash+2)
			}
			path := newImage(t, kind.size, options...)
			if len(options) < len(kind.options) {
				testneed.Run(t, "tune2fs", "-E", kind.options[hash+1], path)
			}
			checkClean(t, path)
			if slices.Contains([]string{"64k", "casefold", "quota-project"}, kind.name) || t.Failed() {
				return // not every kernel can mount these
			}
			testneed.Mounted(t, path, "", func(root string) {
				if kind.name != "last-group-short" {
					populate(t, root, kind.name)
				}
				dir := filepath.Join(root, "check")
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
				for n := range 500 {
					name := filepath.Join(dir, longName(n))
					if err := os.WriteFile(name, nil, 0o644); err != nil {
						t.Fatal(err)
					}
					if n%3 == 1 {
						os.Remove(name)
					}
				}
			})
			checkClean(t, path)
		})
	}
}

// longName is a name of some length.
func longName(n int) string {
	b := make([]byte, 1+n%200)
	for i := range b {
		b[i] = byte('a' + (n+i*n)%26)
	}
	return string(b) + string(rune('A'+n%26)) + string(rune('0'+n/26%10)) + string(rune('0'+n/260))
}
