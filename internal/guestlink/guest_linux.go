package guestlink

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"banger/internal/guestabi"
)

// Open is the guest's end of the link that the kernel command line names: kind
// is guestabi.LinkSerial or guestabi.LinkVsock.
func Open(kind string) (Link, error) {
	switch kind {
	case guestabi.LinkSerial:
		port, err := serialPort()
		if err != nil {
			return nil, err
		}
		// O_NONBLOCK puts the file under Go's poller, so that Close ends a read.
		f, err := os.OpenFile(port, os.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		return GuestSerial(f)
	case guestabi.LinkVsock:
		return guestVsock()
	}
	return nil, fmt.Errorf("unknown kind of guest link %q", kind)
}

// serialPort finds the device of the port guestabi.SerialPort.
func serialPort() (string, error) {
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return "", err
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err == nil && strings.TrimSpace(string(text)) == guestabi.SerialPort {
			return "/dev/" + filepath.Base(filepath.Dir(name)), nil
		}
	}
	return "", fmt.Errorf("there is no virtio-serial port named %q", guestabi.SerialPort)
}

// guestVsock listens on the agent's port; the host is VMADDR_CID_HOST (vsock(7)).
func guestVsock() (Link, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot open a vsock socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "vsock")
	err = unix.Bind(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: guestabi.AgentPort})
	if err == nil {
		err = unix.Listen(fd, acceptBacklog)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot listen on vsock port %d: %w", guestabi.AgentPort, err), f.Close())
	}
	return &vsockGuest{file: f}, nil
}

type vsockGuest struct {
	file *os.File
	once sync.Once
	err  error
}

func (v *vsockGuest) Dial(context.Context) (net.Conn, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_HOST, Port: guestabi.HostPort}); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot reach the host: %w", err), unix.Close(fd))
	}
	return vsockConn(fd)
}

func (v *vsockGuest) Accept() (net.Conn, error) {
	raw, err := v.file.SyscallConn()
	if err != nil {
		return nil, errors.Join(ErrDown, err)
	}
	fd, acceptErr := -1, error(nil)
	err = raw.Read(func(listener uintptr) bool {
		fd, _, acceptErr = unix.Accept4(int(listener), unix.SOCK_CLOEXEC)
		return !errors.Is(acceptErr, unix.EAGAIN)
	})
	if err := errors.Join(err, acceptErr); err != nil {
		return nil, errors.Join(ErrDown, err)
	}
	return vsockConn(fd)
}

func (v *vsockGuest) Close() error {
	v.once.Do(func() { v.err = v.file.Close() })
	return v.err
}

// vsockConn makes a connected socket a net.Conn that Go's poller serves.
func vsockConn(fd int) (net.Conn, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return fileConn{os.NewFile(uintptr(fd), "vsock")}, nil
}

// fileConn is a stream socket of a family that package net does not know.
type fileConn struct{ *os.File }

func (fileConn) LocalAddr() net.Addr  { return addr{} }
func (fileConn) RemoteAddr() net.Addr { return addr{} }
