package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"banger/internal/base/errs"
	"banger/internal/base/progress"
	"banger/internal/daemon/lifecycle"
	"banger/internal/vm"
)

func running(name string) lifecycle.Request { return lifecycle.Request{Name: name, Start: true} }

func (h *host) must(v lifecycle.View, err error) lifecycle.View {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
	return v
}

// eventually waits for a state that nobody can be asked to wait for.
func (h *host) eventually(bound time.Duration, what string, ok func() bool) {
	h.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(bound); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			h.Fatalf("not within %s: %s", bound, what)
		}
	}
}

func TestLifeOfAVM(t *testing.T) {
	h := newHost(t)
	d := h.start()
	v := h.must(d.Create(t.Context(), running("dev"), nil))
	if v.State != vm.Running || v.Status.GetBootId() == "" || v.StartedAt.IsZero() || v.Spec.ImageDigest != "sha256:d" {
		t.Errorf("after create: %+v", v)
	}
	if d := cmp.Diff(v.Spec.Config, imageConfig.ForVM()); d != "" {
		t.Errorf("the image's configuration: %s", d)
	}
	if _, err := d.Start(t.Context(), "dev", nil); errs.KindOf(err) != errs.Conflict {
		t.Errorf("a second start: %v", err)
	}
	if _, err := d.Create(t.Context(), running("dev"), nil); errs.KindOf(err) != errs.Exists {
		t.Errorf("a name in use: %v", err)
	}
	first := v.Status.GetBootId()
	if v = h.must(d.Stop(t.Context(), string(v.ID)[:6], 0, nil)); v.State != vm.Stopped || v.Reason != "stopped" || v.Status != nil {
		t.Errorf("after stop: %+v", v)
	}
	h.must(d.Stop(t.Context(), "dev", 0, nil)) // again is fine
	if v = h.must(d.Restart(t.Context(), "dev", 0, nil)); v.State != vm.Running || v.Status.GetBootId() == first {
		t.Errorf("after restart: %+v", v)
	}
	if _, err := d.Delete(t.Context(), "dev", false, nil); errs.KindOf(err) != errs.Conflict || errs.HintOf(err) == "" {
		t.Errorf("delete of a running VM: %v", err)
	}
	if v = h.must(d.Kill(t.Context(), "dev", 0)); v.State != vm.Stopped || v.Reason != "killed" {
		t.Errorf("after kill: %+v", v)
	}
	if _, err := d.Kill(t.Context(), "dev", 0); errs.KindOf(err) != errs.Conflict {
		t.Errorf("kill of a stopped VM: %v", err)
	}
	h.must(d.Delete(t.Context(), "dev", false, nil))
	if _, err := d.Delete(t.Context(), "dev", true, nil); errs.KindOf(err) != errs.NotFound {
		t.Errorf("a second delete: %v", err)
	}
	h.clean(d, "after delete")
}

func TestRemoveOnStop(t *testing.T) {
	h := newHost(t)
	d := h.start()
	h.must(d.Create(t.Context(), lifecycle.Request{Name: "gone", Start: true, RemoveOnStop: true}, nil))
	h.must(d.Stop(t.Context(), "gone", 0, nil))
	h.eventually(5*time.Second, "the VM is removed", func() bool { return len(d.List()) == 0 })
	h.clean(d, "after stop")
}

func TestGuestsThatMisbehave(t *testing.T) {
	h := newHost(t)
	d := h.start()
	h.must(d.Create(t.Context(), running("deaf"), nil))
	if v := h.must(d.Stop(t.Context(), "deaf", 200*time.Millisecond, nil)); !strings.Contains(v.Reason, "killed: it did not stop") {
		t.Errorf("reason %q", v.Reason)
	}
	h.must(d.Create(t.Context(), lifecycle.Request{Name: "silent"}, nil))
	started := make(chan error, 1)
	go func() {
		_, err := d.Start(t.Context(), "silent", nil)
		started <- err
	}()
	h.eventually(5*time.Second, "the VM is starting", func() bool {
		v, err := d.Get("silent")
		return err == nil && v.Status != nil
	})
	// One can stop a guest that hangs in its boot.
	h.must(d.Stop(t.Context(), "silent", 0, nil))
	if err := <-started; errs.KindOf(err) != errs.Unavailable || !strings.Contains(errs.HintOf(err), "vm logs") {
		t.Errorf("start of a silent guest: %v, hint %q", err, errs.HintOf(err))
	}
	for _, name := range []string{"deaf", "silent"} {
		h.must(d.Delete(t.Context(), name, true, nil))
	}
	h.clean(d, "in the end")
}

func TestCancelledCreateLeavesNothing(t *testing.T) {
	h := newHost(t)
	d := h.start()
	last := 100 // how many reports a creation makes; the first round finds out
	for _, r := range []lifecycle.Request{running("c"), running("silent")} {
		for n := 1; n <= last; n++ { // at each report of progress
			ctx, cancel := context.WithCancel(t.Context())
			reports := 0
			v, err := d.Create(ctx, r, func(progress.Report) {
				if reports++; reports == n {
					cancel()
				}
			})
			cancel()
			if reports < n {
				h.must(v, err)
				h.must(d.Delete(t.Context(), "c", true, nil))
				last = reports
				break
			}
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s cancelled at report %d: %v", r.Name, n, err)
			}
			h.clean(d, fmt.Sprintf("%s cancelled at report %d", r.Name, n))
		}
	}
}

func TestDeleteGivesUpACreation(t *testing.T) {
	h := newHost(t)
	d := h.start()
	created := make(chan error, 1)
	go func() {
		_, err := d.Create(t.Context(), running("silent"), nil)
		created <- err
	}()
	h.eventually(5*time.Second, "the VM boots", func() bool {
		v, err := d.Get("silent")
		return err == nil && v.State == vm.Starting && v.Status != nil
	})
	for name, do := range map[string]func() (lifecycle.View, error){
		"start": func() (lifecycle.View, error) { return d.Start(t.Context(), "silent", nil) },
		"stop":  func() (lifecycle.View, error) { return d.Stop(t.Context(), "silent", 0, nil) },
	} {
		if _, err := do(); errs.KindOf(err) != errs.Conflict {
			t.Errorf("%s during a creation: %v", name, err)
		}
	}
	h.must(d.Delete(t.Context(), "silent", true, nil))
	if err := <-created; !errors.Is(err, context.Canceled) {
		t.Errorf("Create: %v", err)
	}
	h.clean(d, "after delete")
}

// TestEveryStoreFailureIsUndone makes each write of a creation fail in turn.
func TestEveryStoreFailureIsUndone(t *testing.T) {
	h := newHost(t)
	d := h.start()
	for n := int64(1); ; n++ {
		h.writes.Store(0)
		h.failAt.Store(n)
		v, err := d.Create(t.Context(), running("f"), nil)
		h.failAt.Store(0)
		if h.writes.Load() < n {
			h.must(v, err)
			h.must(d.Delete(t.Context(), "f", true, nil))
			if n < 5 {
				t.Errorf("only %d writes were tried", n-1)
			}
			break
		}
		if err == nil { // a state that could not be recorded is still true
			h.must(d.Delete(t.Context(), "f", true, nil))
		} else if !errors.Is(err, errInjected) {
			t.Errorf("write %d: %v", n, err)
		}
		h.clean(d, fmt.Sprintf("write %d failed", n))
	}
}

func TestVMsOutliveTheDaemon(t *testing.T) {
	h := newHost(t)
	d := h.start()
	before := map[string]lifecycle.View{}
	for _, name := range []string{"a", "b", "deaf"} {
		before[name] = h.must(d.Create(t.Context(), running(name), nil))
	}
	h.must(d.Create(t.Context(), lifecycle.Request{Name: "off"}, nil))
	d.stop()
	if err := syscall.Kill(int(before["b"].Status.GetShimPid()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	d = h.start()
	for name, want := range map[string]vm.State{"a": vm.Running, "b": vm.Stopped, "deaf": vm.Running, "off": vm.Stopped} {
		v := h.must(d.Get(name))
		if v.State != want {
			t.Errorf("%s is %s, want %s (%s)", name, v.State, want, v.Reason)
		}
		if d := cmp.Diff(v.Spec.Config, imageConfig.ForVM()); d != "" {
			t.Errorf("%s: the image's configuration: %s", name, d)
		}
		if want == vm.Running && v.Status.GetBootId() != before[name].Status.GetBootId() {
			t.Errorf("%s was restarted", name)
		}
	}
	h.must(d.Stop(t.Context(), "a", 0, nil))
	h.must(d.Start(t.Context(), "b", nil))
	for _, name := range []string{"a", "b", "deaf", "off"} {
		h.must(d.Delete(t.Context(), name, true, nil))
	}
	h.clean(d, "in the end")
}

// TestCrashDuringCreateIsTakenBack leaves what a killed daemon would leave.
func TestCrashDuringCreateIsTakenBack(t *testing.T) {
	h := newHost(t)
	d := h.start()
	v := h.must(d.Create(t.Context(), running("crash"), nil))
	if err := d.db.Journal(t.Context(), vm.Operation{VM: v.ID, Action: "create", Step: "boot"}); err != nil {
		t.Fatal(err)
	}
	half := vm.VM{ID: "00000000000000aa", Spec: vm.Spec{Name: "half", Image: "img"}, State: vm.Creating, CreatedAt: time.Now()}
	if err := d.db.InsertVM(t.Context(), half, vm.Operation{VM: half.ID, Action: "create", Step: "disks"}); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(h.dirs.VM(string(half.ID)).State, 0o700); err != nil {
		t.Fatal(err)
	}
	d.stop()
	h.clean(h.start(), "after the crash")
}

func TestDeathOfAShimIsNoticed(t *testing.T) {
	h := newHost(t)
	d := h.start()
	v := h.must(d.Create(t.Context(), running("dies"), nil))
	if err := syscall.Kill(int(v.Status.GetShimPid()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.eventually(2*time.Second, "the VM is stopped", func() bool { return h.must(d.Get("dies")).State == vm.Stopped })
	if v := h.must(d.Get("dies")); !strings.Contains(v.Reason, "shim died") {
		t.Errorf("reason %q", v.Reason)
	}
	h.must(d.Start(t.Context(), "dies", nil))
	h.must(d.Delete(t.Context(), "dies", true, nil))
	h.clean(d, "in the end")
}

func TestManyAtOnce(t *testing.T) {
	h := newHost(t)
	d := h.start()
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			name := fmt.Sprintf("m%d", i)
			if _, err := d.Create(t.Context(), lifecycle.Request{Name: name, Start: i%2 == 0}, nil); err != nil {
				t.Error(err)
			}
			if _, err := d.Delete(t.Context(), name, true, nil); err != nil {
				t.Error(err)
			}
		})
	}
	// One name for many: exactly one gets it.
	got := make(chan error, 5)
	for range 5 {
		wg.Go(func() {
			_, err := d.Create(t.Context(), lifecycle.Request{Name: "one"}, nil)
			got <- err
		})
	}
	wg.Wait()
	won := 0
	for range 5 {
		if err := <-got; err == nil {
			won++
		} else if errs.KindOf(err) != errs.Exists {
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d creates got the one name", won)
	}
	h.must(d.Delete(t.Context(), "one", false, nil))
	h.clean(d, "in the end")
}

func TestBadRequestsAreRefusedBeforeAnyWork(t *testing.T) {
	h := newHost(t)
	d := h.start()
	for _, r := range []lifecycle.Request{
		{Name: "Not_A_Label"}, {Name: "n", VCPUs: -1}, {Name: "n", VCPUs: 99}, {Name: "n", Memory: 1}, {Name: "n", Memory: -vm.GiB}, {Name: "n", Disk: vm.MiB},
	} {
		if _, err := d.Create(t.Context(), r, nil); errs.KindOf(err) != errs.Invalid {
			t.Errorf("%+v: %v", r, err)
		}
	}
	if _, err := d.Get("none"); errs.KindOf(err) != errs.NotFound || errs.HintOf(err) == "" {
		t.Errorf("Get: %v", err)
	}
	h.clean(d, "after the refusals")
}
