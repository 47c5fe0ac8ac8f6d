package ext4_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io/fs"
	"log"
	"os"
	"testing/fstest"

	"banger/ext4"
)

// temporary returns a file for an example.
func temporary() (*os.File, func()) {
	f, err := os.CreateTemp("", "image")
	if err != nil {
		log.Fatal(err)
	}
	return f, func() { f.Close(); os.Remove(f.Name()) }
}

// oneFile is an archive with one file.
func oneFile(name, data string) *bytes.Buffer {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data))}); err != nil {
		log.Fatal(err)
	}
	fmt.Fprint(w, data)
	w.Close()
	return &b
}

// An empty file system of 8 GiB takes less than 200 KB on the host.
func ExampleFormat() {
	f, done := temporary()
	defer done()
	if err := ext4.Format(f, &ext4.Options{Size: 8 << 30, Label: "data"}); err != nil {
		log.Fatal(err)
	}
	image, err := ext4.Open(f, 8<<30)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(image.Stats().Label, image.Stats().Groups)
	// Output: data 64
}

// A tar archive becomes a packed image, which a virtual machine mounts read-only.
func ExampleBuilder_Tar() {
	f, done := temporary()
	defer done()
	b, err := ext4.NewBuilder(f, nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := b.Tar(oneFile("etc/hostname", "devbox\n")); err != nil {
		log.Fatal(err)
	}
	if err := b.Finish(); err != nil {
		log.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		log.Fatal(err)
	}
	image, err := ext4.Open(f, info.Size())
	if err != nil {
		log.Fatal(err)
	}
	data, err := fs.ReadFile(image, "etc/hostname")
	fmt.Printf("%s%v\n", data, err)
	// Output:
	// devbox
	// <nil>
}

// The layers of a container image, lowest first: the second takes a file away.
func ExampleBuilder_Layers() {
	f, done := temporary()
	defer done()
	b, err := ext4.NewBuilder(f, &ext4.Options{Size: 64 << 20}) // with room to write
	if err != nil {
		log.Fatal(err)
	}
	if err := b.Layers(oneFile("a/secret", "key"), oneFile("a/.wh.secret", "")); err != nil {
		log.Fatal(err)
	}
	if err := b.Finish(); err != nil {
		log.Fatal(err)
	}
	image, err := ext4.Open(f, 64<<20)
	if err != nil {
		log.Fatal(err)
	}
	entries, err := image.ReadDir("a")
	fmt.Println(len(entries), err)
	// Output: 0 <nil>
}

// A tree of any fs.FS.
func ExampleBuilder_FS() {
	f, done := temporary()
	defer done()
	b, err := ext4.NewBuilder(f, nil)
	if err != nil {
		log.Fatal(err)
	}
	if err := b.FS(fstest.MapFS{"bin/tool": {Data: []byte("#!"), Mode: 0o755}}); err != nil {
		log.Fatal(err)
	}
	if err := b.Finish(); err != nil {
		log.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		log.Fatal(err)
	}
	image, err := ext4.Open(f, info.Size())
	if err != nil {
		log.Fatal(err)
	}
	tool, err := image.Stat("bin/tool")
	fmt.Println(tool.Mode(), err)
	// Output: -rwxr-xr-x <nil>
}
