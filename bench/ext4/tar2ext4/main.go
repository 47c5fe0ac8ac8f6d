// Command tar2ext4 is hcsshim's converter, to measure ours beside it.
package main

import (
	"fmt"
	"os"

	"github.com/Microsoft/hcsshim/ext4/tar2ext4"
)

func main() {
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if err := tar2ext4.ConvertTarToExt4(in, out, tar2ext4.MaximumDiskSize(16<<30)); err != nil {
		return err
	}
	return out.Close()
}
