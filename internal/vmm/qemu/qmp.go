package qemu

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// maxLine bounds one QMP message.
const maxLine = 1 << 20

// monitor speaks QMP, QEMU's machine protocol (QEMU's docs/interop/qmp-spec):
// one JSON object a line; a greeting, then replies in order, and events between.
type monitor struct {
	file *os.File
	// replies carries the reply to the one command under way.
	replies chan reply
	done    chan struct{}

	mu sync.Mutex // held for one command and its reply

	reasonMu sync.Mutex
	reason   string
}

// message is any line that QEMU sends.
type message struct {
	QMP    json.RawMessage `json:"QMP"`
	Event  string          `json:"event"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Desc string `json:"desc"`
	} `json:"error"`
	Data struct {
		Reason string `json:"reason"`
	} `json:"data"`
}

type reply struct{ err error }

// newMonitor waits for the greeting and enters command mode. The file belongs to
// the machine; closing it ends the monitor.
func newMonitor(ctx context.Context, file *os.File) (*monitor, error) {
	m := &monitor{file: file, replies: make(chan reply, 1), done: make(chan struct{})}
	stop := context.AfterFunc(ctx, func() { _ = file.SetReadDeadline(time.Unix(1, 0)) })
	scanner := bufio.NewScanner(file)
	scanner.Buffer(make([]byte, 0, 4096), maxLine)
	greeted := scanner.Scan()
	var greeting message
	if greeted {
		greeted = json.Unmarshal(scanner.Bytes(), &greeting) == nil && greeting.QMP != nil
	}
	if !stop() || !greeted {
		return nil, errors.Join(errors.New("QEMU's monitor did not greet"), ctx.Err(), scanner.Err())
	}
	go m.read(scanner)
	if err := m.execute(ctx, "qmp_capabilities"); err != nil {
		return nil, err
	}
	return m, nil
}

// read sorts QEMU's messages until QEMU goes away.
func (m *monitor) read(scanner *bufio.Scanner) {
	defer close(m.done)
	for scanner.Scan() {
		var msg message
		if json.Unmarshal(scanner.Bytes(), &msg) != nil {
			continue
		}
		switch {
		case msg.Event == "SHUTDOWN":
			m.reasonMu.Lock()
			m.reason = msg.Data.Reason
			m.reasonMu.Unlock()
		case msg.Error != nil:
			m.reply(reply{errors.New(msg.Error.Desc)})
		case msg.Return != nil:
			m.reply(reply{})
		}
	}
}

// reply drops a reply that nobody awaits any more.
func (m *monitor) reply(r reply) {
	select {
	case m.replies <- r:
	default:
	}
}

// execute runs one command without arguments.
func (m *monitor) execute(ctx context.Context, command string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := fmt.Fprintf(m.file, "{\"execute\":%q}\n", command); err != nil {
		return fmt.Errorf("cannot ask QEMU to %s: %w", command, err)
	}
	select {
	case r := <-m.replies:
		if r.err != nil {
			return fmt.Errorf("QEMU refused to %s: %w", command, r.err)
		}
		return nil
	case <-m.done:
		return fmt.Errorf("cannot ask QEMU to %s: it has exited", command)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wait returns the reason of the SHUTDOWN event, or "", once QEMU has closed
// the monitor.
func (m *monitor) wait() string {
	<-m.done
	m.reasonMu.Lock()
	defer m.reasonMu.Unlock()
	return m.reason
}
