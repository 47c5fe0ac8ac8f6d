// Command ext4 measures the package ext4 side by side, in one run, with the
// programs that do the same: cat (the floor), hcsshim's tar2ext4, mke2fs, debugfs,
// resize2fs and e2fsck.
//
// The contenders take turns within each round, since the machine is noisy, and the
// table gives medians and how many times faster we are. Ours run in this process; the
// others are processes, as their users run them, and the table's last rows say what
// starting one costs. Run it with "make bench-ext4".
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 5, "how often each contender runs; the slow ones run three times at most")
	work := flag.String("work", ".cache/bench-ext4", "folder for what may be kept between runs")
	only := flag.String("only", "", "run only the comparisons whose name contains this")
	profile := flag.String("profile", "", "write a CPU profile of our own runs to this file")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	b := &bench{rounds: *rounds, only: *only}
	var err error
	if b.work, err = filepath.Abs(*work); err == nil {
		err = b.run(ctx, os.Stdout, *profile)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one benchmark run.
type bench struct {
	rounds int
	work   string
	only   string
}

// comparison is one thing done by several contenders; the first is ours.
type comparison struct {
	name       string
	ours       contender
	others     []rival
	beforeEach func() error // what no contender's time includes
}

// contender is one way to do it.
type contender struct {
	name string
	once func(context.Context) error
}

// rival is somebody else's way, and how the ratio of our time to its is to be.
type rival struct {
	contender
	aim  float64 // at most; 0: only shown
	slow bool
}

func (b *bench) run(ctx context.Context, out io.Writer, profile string) error {
	if err := os.MkdirAll(b.work, 0o755); err != nil {
		return err
	}
	m, err := b.prepare(ctx)
	if err != nil {
		return err
	}
	all, err := b.comparisons(m)
	if err != nil {
		return err
	}
	stop, err := startProfile(profile)
	if err != nil {
		return err
	}
	defer stop()
	fmt.Fprintf(out, "%-34s %-26s %12s %9s %9s\n", "", "", "median", "ours/it", "aim")
	for _, c := range all {
		if !strings.Contains(c.name, b.only) {
			continue
		}
		if err := b.measure(ctx, out, c); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// measure lets the contenders take turns.
func (b *bench) measure(ctx context.Context, out io.Writer, c comparison) error {
	times := make([][]time.Duration, 1+len(c.others))
	for round := range b.rounds {
		for i := range times {
			once := c.ours.once
			if i > 0 {
				if c.others[i-1].slow && round >= 3 {
					continue
				}
				once = c.others[i-1].once
			}
			if c.beforeEach != nil {
				if err := c.beforeEach(); err != nil {
					return err
				}
			}
			syscall.Sync() // else each would also wait for what the one before left to write
			start := time.Now()
			if err := once(ctx); err != nil {
				return err
			}
			times[i] = append(times[i], time.Since(start))
		}
	}
	ours := median(times[0])
	fmt.Fprintf(out, "%-34s %-26s %12s\n", c.name, c.ours.name, show(ours))
	for i, r := range c.others {
		theirs := median(times[i+1])
		ratio := float64(ours) / float64(theirs)
		aim, verdict := "", ""
		if r.aim > 0 {
			aim = fmt.Sprintf("%.3g", r.aim)
			if verdict = "met"; ratio > r.aim {
				verdict = "MISSED"
			}
		}
		fmt.Fprintf(out, "%-34s %-26s %12s %9.3g %9s %s\n", "", r.name, show(theirs), ratio, aim, verdict)
	}
	return nil
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

func show(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.3f ms", float64(d)/1e6)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", float64(d)/1e6)
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

// command runs a program, and shows what it said if it fails.
func command(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "LC_ALL=C.UTF-8")
	path, err := findTool(name)
	if err != nil {
		return err
	}
	cmd.Path, cmd.Err = path, nil
	said, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, said)
	}
	return nil
}

// findTool also looks where an ordinary user's PATH does not.
func findTool(name string) (string, error) {
	for _, dir := range []string{"", "/usr/sbin/", "/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("there is no %s: make bench-ext4 installs it", name)
}
