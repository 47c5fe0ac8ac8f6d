package lifecycle_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"banger/internal/base/disklock"
	"banger/internal/base/errs"
	"banger/internal/daemon/lifecycle"
)

func TestDiskOfAStoppedVM(t *testing.T) {
	h := newHost(t)
	d := h.start()
	v, err := d.Create(t.Context(), lifecycle.Request{Name: "dev"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"work": v.Files.WorkDisk(), "system": v.Files.SystemDisk()} {
		got, err := d.Disk(t.Context(), "dev", name, true)
		if err != nil || got.Path != path || got.Lock != v.Files.Lock() || got.VM != "dev" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if got, err := d.Disk(t.Context(), "dev", "base", false); err != nil || got.Path != h.dirs.BaseDisk("sha256:d") || got.Lock != "" {
		t.Errorf("base: %+v, %v", got, err)
	}
	for _, c := range []struct {
		vm, disk string
		write    bool
		kind     errs.Kind
	}{{"dev", "base", true, errs.Conflict}, {"dev", "root", false, errs.Invalid}, {"none", "work", false, errs.NotFound}} {
		if _, err := d.Disk(t.Context(), c.vm, c.disk, c.write); errs.KindOf(err) != c.kind || errs.HintOf(err) == "" {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if err := os.Truncate(v.Files.WorkDisk(), 20<<30); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Get("dev"); err != nil || got.Spec.Work != 20<<30 {
		t.Errorf("a disk that was grown: %v, %v", got.Spec.Work, err)
	}
	if _, err := d.Start(t.Context(), "dev", nil); err != nil {
		t.Fatal(err)
	}
	for _, disk := range []string{"work", "system"} {
		_, err := d.Disk(t.Context(), "dev", disk, false)
		if errs.KindOf(err) != errs.Conflict || errs.HintOf(err) != "banger vm stop dev" || !strings.Contains(err.Error(), `the VM "dev" is running`) {
			t.Errorf("%s of a running VM: %v", disk, err)
		}
	}
	if _, err := d.Disk(t.Context(), "dev", "base", false); err != nil {
		t.Errorf("base of a running VM: %v", err)
	}
	if _, err := d.Delete(t.Context(), "dev", true, nil); err != nil {
		t.Error(err)
	}
}

// TestEditKeepsTheVMFromItsDisks also over a restart of the daemon, which must not take
// the editor for a shim that does not answer.
func TestEditKeepsTheVMFromItsDisks(t *testing.T) {
	h := newHost(t)
	d := h.start()
	v, err := d.Create(t.Context(), lifecycle.Request{Name: "dev"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	lock, err := disklock.Take(v.Files.Lock(), "banger disk cp (process 17)")
	if err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		_, startErr := d.Start(t.Context(), "dev", nil)
		_, deleteErr := d.Delete(t.Context(), "dev", false, nil)
		for _, err := range []error{startErr, deleteErr} {
			if errs.KindOf(err) != errs.Conflict || !strings.Contains(err.Error(), "banger disk cp (process 17)") || errs.HintOf(err) == "" {
				t.Errorf("%s: %v", when, err)
			}
		}
		if v, err := d.Get("dev"); err != nil || v.State != "stopped" || v.Reason != "never started" {
			t.Errorf("%s: %s, %q, %v", when, v.State, v.Reason, err)
		}
	}
	check("while the disks are edited")
	d.stop()
	began := time.Now()
	d = h.start()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the daemon took %s to start", took)
	}
	check("with a new daemon")
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Start(t.Context(), "dev", nil); err != nil {
		t.Errorf("after the edit: %v", err)
	}
	if _, err := d.Delete(t.Context(), "dev", true, nil); err != nil {
		t.Error(err)
	}
}
