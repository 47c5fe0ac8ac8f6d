package ext4_test

import (
	"fmt"
	"log"
	"os"
	"strings"

	"banger/ext4"
)

// A file is written into the image of a machine that is stopped: either all of it is
// there when the machine starts, with its directory and owner, or nothing.
func ExampleEdit() {
	f, err := os.CreateTemp("", "image")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if err := ext4.Format(f, &ext4.Options{Size: 64 << 20}); err != nil {
		log.Fatal(err)
	}

	tx, err := ext4.Edit(f, 64<<20, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer tx.Close() // gives up what is not committed
	if err := tx.MkdirAll("/root/.ssh", ext4.Attr{Mode: 0o700}); err != nil {
		log.Fatal(err)
	}
	key := strings.NewReader("ssh-ed25519 AAAA... somebody\n")
	if err := tx.WriteFile("/root/.ssh/authorized_keys", key, ext4.Attr{Mode: 0o600}); err != nil {
		log.Fatal(err)
	}
	if err := tx.Symlink("/usr/share/zoneinfo/UTC", "/localtime", ext4.Attr{}); err != nil {
		log.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		log.Fatal(err)
	}

	image, err := ext4.Open(f, 64<<20)
	if err != nil {
		log.Fatal(err)
	}
	info, err := image.Stat("root/.ssh/authorized_keys")
	fmt.Println(info.Mode(), info.Size(), err)
	// Output: -rw------- 29 <nil>
}
