package vm_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"banger/internal/base/errs"
	"banger/internal/vm"
)

func TestParseName(t *testing.T) {
	good := []string{"a", "0", "dev", "dev-box", "a--b", "1-2", strings.Repeat("x", 63)}
	for _, s := range good {
		if n, err := vm.ParseName(s); err != nil || string(n) != s {
			t.Errorf("ParseName(%q) = %q, %v; want it unchanged", s, n, err)
		}
	}
	bad := []string{"", "-a", "a-", "A", "dev_box", "a.b", "a b", "ä", "a\n", "../x", strings.Repeat("x", 64), "a\x00"}
	for _, s := range bad {
		if n, err := vm.ParseName(s); errs.KindOf(err) != errs.Invalid || errs.HintOf(err) == "" {
			t.Errorf("ParseName(%q) = %q, %v; want a refusal with a hint", s, n, err)
		}
	}
}

func TestRandomNamesAreNames(t *testing.T) {
	seen := map[vm.Name]bool{}
	for range 200 {
		n := vm.RandomName()
		if _, err := vm.ParseName(string(n)); err != nil {
			t.Fatal(err)
		}
		seen[n] = true
	}
	if len(seen) < 150 {
		t.Errorf("only %d different names of 200", len(seen))
	}
}

func TestParseSize(t *testing.T) {
	for s, want := range map[string]vm.Size{
		"4GiB": 4 * vm.GiB, "4G": 4 * vm.GiB, "4g": 4 * vm.GiB, "4GB": 4 * vm.GiB, "512MiB": 512 * vm.MiB, "1.5GiB": 1536 * vm.MiB,
		"1": 1, "4096": 4096, "2TiB": 2 * vm.TiB, "64 MiB": 64 * vm.MiB, "0.5K": 512,
	} {
		if got, err := vm.ParseSize(s); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "0", "0G", "-1", "-4GiB", "4X", "G", "1e3", "NaN", "Inf", "9223372036854775807G", "1.0000001K", "4GiBs", "1..5G", "0x10", "+4G", "0.1"} {
		if got, err := vm.ParseSize(s); errs.KindOf(err) != errs.Invalid {
			t.Errorf("ParseSize(%q) = %d, %v; want a refusal", s, got, err)
		}
	}
}

func TestSizesReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := vm.Size(rapid.Int64Min(1).Draw(t, "size"))
		if got, err := vm.ParseSize(want.String()); err != nil || got != want {
			t.Fatalf("ParseSize(%q) = %d, %v; want %d", want, got, err, want)
		}
	})
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"4GiB", "1.5g", "-0", "1e9", "٣"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := vm.ParseSize(s); err == nil && got <= 0 {
			t.Errorf("ParseSize(%q) = %d without an error", s, got)
		}
	})
}

func TestHostDefaults(t *testing.T) {
	for _, c := range []struct {
		cpus   int
		memory vm.Size
		wantC  int
		wantM  vm.Size
	}{
		{1, vm.GiB, 1, 512 * vm.MiB},
		{2, 24 * vm.GiB, 1, 3 * vm.GiB},
		{16, 32 * vm.GiB, 4, 4 * vm.GiB},
		{128, 512 * vm.GiB, 4, 8 * vm.GiB},
		{8, 16*vm.GiB - 12345, 2, 2*vm.GiB - vm.MiB},
	} {
		gotC, gotM := vm.HostDefaults(c.cpus, c.memory)
		if gotC != c.wantC || gotM != c.wantM {
			t.Errorf("HostDefaults(%d, %s) = %d, %s; want %d, %s", c.cpus, c.memory, gotC, gotM, c.wantC, c.wantM)
		}
		if err := vm.CheckMemory(gotM); err != nil {
			t.Error(err)
		}
	}
}

func TestEveryStateEndsGoneOrStopped(t *testing.T) {
	for _, s := range []vm.State{vm.Starting, vm.Running, vm.Stopping} {
		if !vm.CanMove(s, vm.Stopped) {
			t.Errorf("%s cannot become stopped", s)
		}
		if vm.CanMove(s, vm.Deleting) {
			t.Errorf("%s may be deleted while its VMM runs", s)
		}
	}
}

func TestApprox(t *testing.T) {
	for size, want := range map[vm.Size]string{
		1: "1B", 1023: "1023B", vm.KiB: "1KiB", vm.KiB + 512: "1.5KiB", 1010 * vm.MiB: "1010MiB", 12*vm.MiB + 300*vm.KiB: "12.3MiB", 100 * vm.GiB: "100GiB",
		5*vm.TiB/4 + 1: "1.25TiB",
	} {
		if got := size.Approx(); got != want {
			t.Errorf("Approx(%d) = %q, want %q", int64(size), got, want)
		}
	}
}
