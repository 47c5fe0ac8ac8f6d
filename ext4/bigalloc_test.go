package ext4

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// With bigalloc and blocks of 1 KiB the first group begins with block 0, and its
// superblock and descriptors a block later.
func TestBigallocOfSmallBlocks(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for i := range 20 {
		must(t, os.WriteFile(filepath.Join(root, fmt.Sprint(i)), pattern(i, i*3000), 0o644))
	}
	for _, options := range [][]string{
		{"-O", "bigalloc", "-C", "4096"},
		{"-O", "bigalloc,meta_bg,^resize_inode", "-C", "2048"},
		{"-O", "bigalloc,^metadata_csum,sparse_super2", "-C", "16384"},
		{"-O", "bigalloc,^flex_bg", "-C", "8192", "-E", "resize=4000000"},
	} {
		path := newImage(t, "300M", append([]string{"-t", "ext4", "-b", "1024", "-d", root}, options...)...)
		im := openImage(t, path)
		if im.v.sb.FirstDataBlock != 0 {
			t.Fatalf("%v: the first data block is %d", options, im.v.sb.FirstDataBlock)
		}
		for i := range 20 {
			if b, err := im.ReadFile(fmt.Sprint(i)); err != nil || !bytes.Equal(b, pattern(i, i*3000)) {
				t.Fatalf("%v: file %d: %d bytes, %v", options, i, len(b), err)
			}
		}
		checkClean(t, path)
	}
}
