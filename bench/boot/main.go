// Command boot measures banger's boot and command latency side by side, in one
// run, with two programs that its users could have used instead:
//
//	bare   QEMU alone, with banger's own kernel and an initramfs whose init
//	       switches the machine off at once: the floor
//	debvm  Debian's debvm-run and ssh, to the first command and power-off by kill
//
// The contenders take turns within each round, since the machine is noisy, and
// the table gives medians and their ratios. Run it with "make bench-boot".
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
	"time"
)

func main() {
	rounds := flag.Int("rounds", 7, "how often each contender runs")
	work := flag.String("work", ".cache/bench", "folder for what may be kept between runs")
	bin := flag.String("banger", "bin/banger", "the banger to measure")
	skipDebvm := flag.Bool("no-debvm", false, "leave out debvm and ssh")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	b := &bench{rounds: *rounds}
	var err error
	if b.work, err = filepath.Abs(*work); err == nil {
		b.banger, err = filepath.Abs(*bin)
	}
	if err == nil {
		err = b.run(ctx, os.Stdout, !*skipDebvm)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one benchmark run.
type bench struct {
	rounds       int
	work, banger string
}

// contender is one thing to measure.
type contender struct {
	name string
	once func(context.Context) error
}

func (b *bench) run(ctx context.Context, out io.Writer, withDebvm bool) error {
	if err := os.MkdirAll(b.work, 0o755); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "preparing: the image and the kernel of banger")
	if err := command(ctx, b.banger, "vm", "run", "--rm", "--memory", "512MiB", "--", "true"); err != nil {
		return err
	}
	bare, err := b.bareQEMU(ctx)
	if err != nil {
		return err
	}
	boots := []contender{
		{"banger vm run --rm -- true", func(ctx context.Context) error {
			return command(ctx, b.banger, "vm", "run", "--rm", "--memory", "512MiB", "--", "true")
		}},
		{"bare QEMU", bare},
	}
	var d *debvm
	if withDebvm {
		if d, err = b.prepareDebvm(ctx); err != nil {
			return err
		}
		boots = append(boots, contender{"debvm-run and ssh", d.bootAndSSH})
	}
	if err := b.table(ctx, out, "boot: to the end of the first command", boots); err != nil {
		return err
	}
	// The guest for the latency runs only now: it would take its share of the CPUs.
	if err := command(ctx, b.banger, "vm", "create", "--name", vmName, "--memory", "512MiB"); err != nil {
		return err
	}
	defer func() { _ = command(context.WithoutCancel(ctx), b.banger, "vm", "delete", "--force", vmName) }()
	if err := command(ctx, b.banger, "vm", "exec", vmName, "--", "sh", "-c",
		"until [ -S /run/systemd/private ]; do sleep 0.1; done; systemctl is-system-running --wait"); err != nil {
		return err
	}
	execs := []contender{{"banger vm exec -- true", func(ctx context.Context) error {
		return command(ctx, b.banger, "vm", "exec", vmName, "--", "true")
	}}}
	if d != nil {
		ssh, err := d.sshInOurGuest(ctx)
		if err != nil {
			return err
		}
		execs = append(execs, contender{"ssh to sshd in the same guest", ssh})
	}
	return b.table(ctx, out, "latency: one command in a running guest", execs)
}

// vmName is the guest in which command latency is measured.
const vmName = "bench-latency"

// table measures the contenders in turns and prints medians and ratios to the first.
func (b *bench) table(ctx context.Context, out io.Writer, title string, all []contender) error {
	times := make([][]time.Duration, len(all))
	for round := range b.rounds {
		for i, c := range all {
			start := time.Now()
			if err := c.once(ctx); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			times[i] = append(times[i], time.Since(start))
			fmt.Fprintf(os.Stderr, "round %d of %d: %-32s %6.2f s\n", round+1, b.rounds, c.name, time.Since(start).Seconds())
		}
	}
	first := median(times[0])
	fmt.Fprintf(out, "\n%s\n%-34s %9s %9s %9s   %s\n", title, "", "median", "min", "max", "banger / this")
	for i, c := range all {
		fmt.Fprintf(out, "%-34s %7.3f s %7.3f s %7.3f s   %.2f\n", c.name, median(times[i]).Seconds(),
			slices.Min(times[i]).Seconds(), slices.Max(times[i]).Seconds(), first.Seconds()/median(times[i]).Seconds())
	}
	return nil
}

func median(d []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return s[len(s)/2]
}

// command runs a program; its output is shown only if it fails.
func command(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return nil
}
