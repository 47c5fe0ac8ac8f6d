package kvm

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestUsable(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	device := write("kvm", "")
	for _, c := range []struct {
		device, cpuinfo string
		want            error
	}{
		{device, write("intel", "processor\t: 0\nflags\t\t: fpu vmx sse\n"), nil},
		{device, write("amd", "flags\t\t: fpu svm\n"), nil},
		{device, write("neither", "flags\t\t: fpu svmx novmx\n"), ErrNoHardware},
		{device, filepath.Join(dir, "none"), nil},
		{filepath.Join(dir, "none"), write("intel2", "flags: vmx\n"), os.ErrNotExist},
	} {
		if err := usable(c.device, c.cpuinfo); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s with %s: %v, want %v", c.device, filepath.Base(c.cpuinfo), err, c.want)
		}
	}
}
