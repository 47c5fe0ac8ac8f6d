// Package guest is the guest binary's composition root. The binary plays two
// parts: PID 1 of the initramfs (package boot), which starts the same file a
// second time as the agent (package agent).
package guest

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"banger/internal/guest/agent"
	"banger/internal/guest/boot"
)

// agentName is the agent's argv[0]. The "@" makes systemd-shutdown spare it, so
// that the host hears from the guest until the end (systemd: "Storage Daemons for
// the Root File System").
const agentName = "@banger-agent"

// Main runs the part that argv[0] or the process id asks for and returns the
// exit status. As PID 1 it does not return while the machine runs.
func Main() int {
	switch {
	case os.Args[0] == agentName:
		return runAgent()
	case os.Getpid() == 1:
		boot.Run(agentName)
		return 1
	}
	fmt.Fprintln(os.Stderr, "banger-init: it is the init of a banger VM and does nothing elsewhere")
	return 2
}

// runAgent reads the agent's arguments: the kind of link, and how the machine is
// switched off (boot.agentArgs writes them).
func runAgent() int {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "banger-agent: started without its two arguments")
		return 2
	}
	// Caught, not ignored: a signal that a process ignores is ignored by the
	// commands that it starts, too. The agent lives until the machine is off.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	agent.Run(context.Background(), agent.Options{Link: os.Args[1], PowerOff: os.Args[2], Handover: os.NewFile(3, "handover")})
	return 1
}
