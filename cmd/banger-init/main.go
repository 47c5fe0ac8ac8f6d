// Command banger-init is the guest's half of banger: /init of the initramfs,
// then the agent beside the image's own init.
package main

import (
	"os"

	"banger/internal/guest"
)

func main() { os.Exit(guest.Main()) }
