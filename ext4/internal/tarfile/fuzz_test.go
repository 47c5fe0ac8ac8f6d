package tarfile

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

// FuzzReader reads anything: it never panics, says the same whatever the size of
// the buffers is, and agrees with archive/tar on what both take.
func FuzzReader(f *testing.F) {
	for _, format := range goFormats {
		archive := mixed(f, format)
		f.Add(archive)
		f.Add(archive[:len(archive)/2])
	}
	f.Add(sparseInData())
	f.Add(oldSparseArchive(2))
	f.Add(oldSparseArchive(30))
	f.Add(new(raw).pax('x', "GNU.sparse.size", "100", "GNU.sparse.numblocks", "2", "GNU.sparse.name", "g", "GNU.sparse.map", "10,2,98,2").
		add(rawHeader('0', "f", 4), "abcd").end())
	f.Add(new(raw).pax('x', "GNU.sparse.size", "9", "GNU.sparse.numblocks", "1", "GNU.sparse.offset", "1", "GNU.sparse.numbytes", "2").
		add(rawHeader('0', "f", 2), "ab").end())
	f.Add(new(raw).pax('g', "uid", "3", "SCHILY.xattr.user.a", "b").pax('x', "mtime", "-1.5", "LIBARCHIVE.xattr.u", "YQ").
		add(rawHeader('0', "f", 2), "ab").end())
	f.Add(new(raw).add(rawHeader('L', "l", 5).gnu(), "name\x00").add(rawHeader('K', "l", 5).gnu(), "link\x00").
		add(rawHeader('1', "f", 20).gnu(), "").end())
	f.Add(make([]byte, 1024))
	f.Fuzz(func(t *testing.T, data []byte) {
		fixed := fixSums(data)
		for _, archive := range [][]byte{data, fixed} {
			ours, err := readAll(bytes.NewReader(archive), 1<<16)
			again, err2 := readAll(bytes.NewReader(archive), 600)
			if fmt.Sprint(err) != fmt.Sprint(err2) || len(ours) != len(again) {
				t.Fatalf("%d members, %v, but in small buffers %d, %v", len(ours), err, len(again), err2)
			}
			for i := range ours {
				if a, b := fmt.Sprintf("%+v", ours[i]), fmt.Sprintf("%+v", again[i]); a != b {
					t.Fatalf("member %d: %s, but in small buffers %s", i, a, b)
				}
				checkSparse(t, &ours[i])
			}
			if err != nil {
				if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrTrailing) {
					t.Fatal(err)
				}
				continue
			}
			if _, err := compareWithGo(archive, ours); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// checkSparse holds an entry to what Entry.Sparse promises.
func checkSparse(t *testing.T, m *read) {
	if m.Sparse == nil {
		if int64(len(m.data)) != m.Size {
			t.Fatalf("%q: %d bytes, its size is %d", m.Name, len(m.data), m.Size)
		}
		return
	}
	var end, sum int64
	for i, run := range m.Sparse {
		if run.Length <= 0 || run.Offset < end || i > 0 && run.Offset == end || run.Length > m.Size-run.Offset {
			t.Fatalf("%q: %v of %d", m.Name, m.Sparse, m.Size)
		}
		end = run.Offset + run.Length
		sum += run.Length
	}
	if sum != int64(len(m.data)) {
		t.Fatalf("%q: %v has %d bytes, %d are stored", m.Name, m.Sparse, sum, len(m.data))
	}
}

// fixSums makes the checksums right of what the reader takes for headers, up to
// the first error that this does not mend, and adds an end: else few mutations
// would get beyond the first check.
func fixSums(data []byte) []byte {
	out := append(bytes.Clone(data), make([]byte, -len(data)&(blockSize-1)+2*blockSize)...)
	for range 20 {
		r := newReader(bytes.NewReader(out), 1<<16)
		var err error
		for err == nil {
			_, err = r.Next()
		}
		at := r.at
		r.Close()
		if !bytes.Contains([]byte(err.Error()), []byte("checksum")) {
			break
		}
		(*header)(out[at:]).sum()
	}
	return out
}
