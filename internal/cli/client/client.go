// Package client connects the command line to the processes that do the work.
//
// Words: the daemon is one process for each user, started here on first use;
// the shim supervises one VM; the agent is banger's process in the guest, behind
// the VM's guest socket.
package client

import (
	"context"
	"errors"
	"syscall"
	"time"

	bangerv1 "banger/api/banger/v1"
	"banger/api/banger/v1/bangerv1connect"
	"banger/api/guest/v1/guestv1connect"
	"banger/api/shim/v1/shimv1connect"
	"banger/internal/base/errs"
	"banger/internal/base/paths"
	"banger/internal/guestabi"
	"banger/internal/rpc"
)

// maxMessage bounds one message from the daemon, in bytes: a list of some ten
// thousand VMs.
const maxMessage = 16 << 20

// Client is a connection to the user's daemon.
type Client struct {
	VMs     bangerv1connect.VMServiceClient
	Images  bangerv1connect.ImageServiceClient
	Kernels bangerv1connect.KernelServiceClient
	Host    bangerv1connect.HostServiceClient

	rpc *rpc.Client
}

// Connect returns a client of the user's daemon, which it starts if there is
// none. The caller closes it.
func Connect(ctx context.Context) (*Client, error) {
	dirs, err := paths.FromEnv()
	if err != nil {
		return nil, err
	}
	up, err := answers(ctx, dirs.DaemonSocket())
	if err == nil && !up {
		err = start(ctx, dirs)
	}
	if err != nil {
		return nil, err
	}
	return newClient(dirs), nil
}

// ConnectIfRunning returns a client of the user's daemon, or nil if there is
// none. The caller closes it.
func ConnectIfRunning(ctx context.Context) (*Client, error) {
	dirs, err := paths.FromEnv()
	if err != nil {
		return nil, err
	}
	if up, err := answers(ctx, dirs.DaemonSocket()); err != nil || !up {
		return nil, err
	}
	return newClient(dirs), nil
}

func newClient(dirs paths.Dirs) *Client {
	c := rpc.NewClient(rpc.Unix(dirs.DaemonSocket()), maxMessage)
	return &Client{
		VMs:     bangerv1connect.NewVMServiceClient(c.Client),
		Images:  bangerv1connect.NewImageServiceClient(c.Client),
		Kernels: bangerv1connect.NewKernelServiceClient(c.Client),
		Host:    bangerv1connect.NewHostServiceClient(c.Client),
		rpc:     c,
	}
}

// Close lets the idle connections go.
func (c *Client) Close() { c.rpc.Close() }

// Guest returns a client of the agent behind a VM's guest socket, and the
// function that closes it.
func Guest(socket string) (guestv1connect.AgentServiceClient, func()) {
	c := rpc.NewClient(rpc.Unix(socket), guestabi.MaxMessage)
	return guestv1connect.NewAgentServiceClient(c.Client), c.Close
}

// Shim returns a client of a VM's shim, and the function that closes it.
func Shim(socket string) (shimv1connect.ShimServiceClient, func()) {
	c := rpc.NewClient(rpc.Unix(socket), guestabi.MaxMessage)
	return shimv1connect.NewShimServiceClient(c.Client), c.Close
}

// answerTimeout bounds a daemon's answer to the question whether it is there.
const answerTimeout = 10 * time.Second

// answers says whether a daemon serves on the socket. A socket that its dead
// listener left behind refuses connections; one whose listener is just dying
// takes them, and answers no call.
func answers(ctx context.Context, socket string) (bool, error) {
	c := rpc.NewClient(rpc.Unix(socket), maxMessage)
	defer c.Close()
	ask, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	_, err := bangerv1connect.NewHostServiceClient(c.Client).Status(ask, &bangerv1.StatusRequest{})
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	case ask.Err() != nil:
		return false, errs.New(errs.Timeout, "the daemon does not answer within %s", answerTimeout).WithHint("pkill -f 'banger daemon serve' (VMs run on), and try again")
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return false, errs.New(errs.Unavailable, "cannot reach the daemon: %w", err)
	}
	return false, nil
}
