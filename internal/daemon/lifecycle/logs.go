package lifecycle

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"time"

	"banger/internal/guestabi"
	"banger/internal/vm"
)

// followTick is how often a followed log is looked at; nobody tells of its growth.
const followTick = 100 * time.Millisecond

// Logs sends a VM's console log, oldest first, in pieces of at most
// guestabi.MaxChunk: all that is kept, or the last lines. With follow it goes on
// until the VM has stopped or ctx ends.
func (m *Manager) Logs(ctx context.Context, ref string, lines int, follow bool, send func([]byte) error) error {
	a, err := m.find(ref)
	if err != nil {
		return err
	}
	v, _ := a.look()
	old, err := readIfThere(v.Files.OldConsoleLog())
	if err != nil {
		return err
	}
	f, err := os.Open(v.Files.ConsoleLog())
	if errors.Is(err, os.ErrNotExist) {
		return send(nil) // it never ran
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	now, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	if err := sendChunks(lastLines(append(old, now...), lines), send); err != nil || !follow {
		return err
	}
	tick := time.NewTicker(followTick)
	defer tick.Stop()
	for {
		v, _ := a.look() // before the read: what a stopped VM wrote is all there
		more, err := io.ReadAll(f)
		if err != nil {
			return err
		}
		if err := sendChunks(more, send); err != nil {
			return err
		}
		if v.State == vm.Stopped || v.State == vm.Deleting {
			return nil
		}
		if len(more) == 0 { // rotated?
			if next, err := os.Open(v.Files.ConsoleLog()); err == nil {
				a, errA := f.Stat()
				b, errB := next.Stat()
				if errA == nil && errB == nil && !os.SameFile(a, b) {
					_ = f.Close()
					f = next
					continue
				}
				_ = next.Close()
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func readIfThere(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// lastLines returns the last n lines; all for n <= 0.
func lastLines(data []byte, n int) []byte {
	if n <= 0 {
		return data
	}
	for end := len(bytes.TrimSuffix(data, []byte("\n"))); ; n-- {
		i := bytes.LastIndexByte(data[:end], '\n')
		if i < 0 || n == 1 {
			return data[i+1:]
		}
		end = i
	}
}

func sendChunks(data []byte, send func([]byte) error) error {
	for len(data) > 0 {
		n := min(len(data), guestabi.MaxChunk)
		if err := send(data[:n]); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}
