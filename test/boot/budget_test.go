package boot_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestBudgets holds what a user pays for a VM that does nothing, and for a
// question. A guest that has just booted still has both cores to itself, so a
// question is asked again until one answer is in time, for ten seconds.
func TestBudgets(t *testing.T) {
	shared.start(t, "idle", "busybox")
	pid := shared.show(t, "idle").ShimPID
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	rss := 0
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &rss); err == nil {
			break
		}
	}
	t.Logf("shim: %.1f MiB resident", float64(rss)/1024)
	if rss == 0 || rss > 25<<10 {
		t.Errorf("the shim takes %d KiB, more than 25 MiB", rss)
	}

	archives, err := filepath.Glob(filepath.Join(shared.home, ".cache/banger/initramfs/*"))
	if err != nil || len(archives) == 0 {
		t.Fatalf("initramfs: %v, %v", archives, err)
	}
	for _, path := range archives {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("initramfs: %.2f MB", float64(info.Size())/1e6)
		if info.Size() >= 6e6 {
			t.Errorf("the initramfs has %d bytes, 6 MB or more", info.Size())
		}
	}

	for _, args := range [][]string{{"vm", "list"}, {"version"}} {
		const budget = 50 * time.Millisecond
		best := time.Hour
		for begun := time.Now(); best >= budget && time.Since(begun) < 10*time.Second; {
			start := time.Now()
			shared.must(t, args...)
			best = min(best, time.Since(start))
		}
		t.Logf("%s: %s", strings.Join(args, " "), best)
		if best >= budget {
			t.Errorf("%s takes %s, %s or more", strings.Join(args, " "), best, budget)
		}
	}
}
