// Command import measures how long it takes to make a disk of an image's layers, side
// by side, in one run, with what others do to get at the files of the same image:
// umoci and mke2fs, hcsshim's tar2ext4 behind a flattened stream, and buildah. The
// floor is to decompress the layers and to write the bytes once.
//
// Everybody works on one image of about 1.3 GB in six gzip layers, in an OCI layout on the disk,
// and in a process of its own. The contenders take turns within each round, since
// the machine is noisy; the table gives medians. Ours and the floor are durable when they
// end, the others are not. Run it as root, with "make bench-import".
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 3, "how often each contender runs")
	work := flag.String("work", ".cache/bench-import", "folder for what may be kept between runs")
	part := flag.String("part", "", "for the benchmark itself: run one contender of ours in this process")
	profile := flag.String("profile", "", "with -part: write a CPU profile to this file")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	b := &bench{rounds: *rounds}
	var err error
	if b.work, err = filepath.Abs(*work); err == nil {
		if *part != "" {
			err = b.profiled(*profile, func() error { return b.runPart(ctx, *part, os.Stdout) })
		} else {
			err = b.run(ctx, os.Stdout)
		}
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
	link   string // to the layout: buildah takes no path with a dot for an image's name
}

func (b *bench) at(name string) string { return filepath.Join(b.work, name) }

// contender is one way to get from layers to files.
type contender struct {
	name string
	// before is what its time does not include.
	before func(context.Context) error
	once   func(context.Context) error
	// aim is what our time divided by its is to be, at most; 0 is only shown.
	aim   float64
	times []time.Duration
}

// maxMemory is what ours may take at most, in KiB.
const maxMemory = 150 << 10

func (b *bench) run(ctx context.Context, out io.Writer) (err error) {
	if err := os.MkdirAll(b.work, 0o755); err != nil {
		return err
	}
	m, err := b.prepare(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d files, %d MB in %d layers, %d MB when compressed; %d rounds\n", m.Files, m.Plain/1e6, len(m.Layers), m.Packed/1e6, b.rounds)
	tmp, err := os.MkdirTemp("", "bench-import")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	b.link = filepath.Join(tmp, "layout")
	if err := os.Symlink(b.at("layout"), b.link); err != nil {
		return err
	}
	peak := 0
	all := b.contenders(&peak)
	defer func() {
		for _, c := range all { // what is mounted or large goes
			err = errors.Join(err, c.before(context.WithoutCancel(ctx)))
		}
	}()
	for round := range b.rounds {
		for i := range all {
			c := &all[i]
			if err := c.before(ctx); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			start := time.Now()
			if err := c.once(ctx); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			c.times = append(c.times, time.Since(start))
			fmt.Fprintf(os.Stderr, "round %d: %-28s %6.2f s\n", round+1, c.name, c.times[round].Seconds())
		}
	}
	ours := median(all[0].times)
	fmt.Fprintf(out, "%-30s %9s %9s %9s\n", "", "median", "ours/it", "aim")
	for i, c := range all {
		theirs := median(c.times)
		if i == 0 {
			fmt.Fprintf(out, "%-30s %7.2f s\n", c.name, theirs.Seconds())
			continue
		}
		ratio := float64(ours) / float64(theirs)
		fmt.Fprintf(out, "%-30s %7.2f s %9.3g", c.name, theirs.Seconds(), ratio)
		if c.aim > 0 {
			fmt.Fprintf(out, " %9.3g %s", c.aim, verdict(ratio <= c.aim))
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintf(out, "%-30s %6d MB %9s %6d MB %s\n", "our peak memory", peak>>10, "", maxMemory>>10, verdict(peak <= maxMemory))
	return nil
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "MISSED"
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}
