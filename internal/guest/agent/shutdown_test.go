package agent

import (
	"os"
	"path/filepath"
	"testing"

	"banger/internal/guestabi"
)

// TestAskInitByItsTool: inits without a signal of their own are asked by a program, which
// is found in PATH.
func TestAskInitByItsTool(t *testing.T) {
	for _, c := range []struct{ init, powerOff, want string }{
		{"openrc-init", guestabi.PowerOffACPI, "openrc-shutdown --poweroff now\n"},
		{"openrc-init", guestabi.PowerOffReset, "openrc-shutdown --reboot now\n"},
		{"init", guestabi.PowerOffACPI, "poweroff \n"},
		{"init", guestabi.PowerOffReset, "reboot \n"},
	} {
		dir := t.TempDir()
		t.Setenv("PATH", dir)
		asked := filepath.Join(dir, "asked")
		for _, tool := range []string{"openrc-shutdown", "poweroff", "reboot"} {
			if err := os.WriteFile(filepath.Join(dir, tool), []byte("#!/bin/sh\necho "+tool+" \"$*\" > "+asked+"\n"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := askInit(c.init, c.powerOff); err != nil {
			t.Errorf("%s, %s: %v", c.init, c.powerOff, err)
		}
		if got, err := os.ReadFile(asked); err != nil || string(got) != c.want {
			t.Errorf("%s, %s: %q, %v, want %q", c.init, c.powerOff, got, err, c.want)
		}
	}
}
