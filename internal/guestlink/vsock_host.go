package guestlink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"banger/internal/guestabi"
)

// handshakeTimeout bounds the vsock handshake; Firecracker's own limit is 2 s
// (docs/vsock.md), to which comes a busy host.
const handshakeTimeout = 10 * time.Second

// maxReply bounds the line "OK <number>\n" of the handshake.
const maxReply = 32

// HostVsock is the host's end of a link over a Firecracker-style vsock socket at
// path. It listens for the guest's streams at once, since Firecracker connects
// on the thread that runs the guest and would stand still with it.
func HostVsock(path string) (Link, error) {
	l, err := net.Listen("unix", fmt.Sprintf("%s_%d", path, guestabi.HostPort))
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(l.Addr().String(), 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &vsockHost{path: path, listener: l}, nil
}

type vsockHost struct {
	path     string
	listener net.Listener
	once     sync.Once
	err      error
}

// Dial writes "CONNECT <port>\n" in one piece, since the other side reads it
// whole from a non-blocking socket, and reads the reply byte by byte, since
// payload may follow it at once (Firecracker, vsock/unix/muxer.rs).
func (v *vsockHost) Dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", v.path)
	if err != nil {
		return nil, errors.Join(ErrDown, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	err = handshake(c)
	if !stop() {
		err = errors.Join(ctx.Err(), err)
	}
	if err == nil {
		err = c.SetDeadline(time.Time{})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot reach the guest agent: %w", err), c.Close())
	}
	return c, nil
}

func handshake(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "CONNECT "+strconv.Itoa(guestabi.AgentPort)+"\n"); err != nil {
		return err
	}
	var line []byte
	for b := make([]byte, 1); ; line = append(line, b[0]) {
		if len(line) == maxReply {
			return fmt.Errorf("the VMM answered %q", line)
		}
		if _, err := io.ReadFull(c, b); err != nil {
			return fmt.Errorf("the guest refused: %w", err)
		}
		if b[0] == '\n' {
			break
		}
	}
	if !strings.HasPrefix(string(line), "OK ") {
		return fmt.Errorf("the VMM answered %q", line)
	}
	return nil
}

func (v *vsockHost) Accept() (net.Conn, error) {
	c, err := v.listener.Accept()
	if err != nil {
		return nil, errors.Join(ErrDown, err)
	}
	return c, nil
}

func (v *vsockHost) Close() error {
	v.once.Do(func() { v.err = v.listener.Close() })
	return v.err
}
