package mmdebstrap

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// endTimeout bounds how long a killed build may take to be gone; a process that
// waits for a disk dies late.
const endTimeout = 30 * time.Second

// kill kills the process group of leader and waits until the namespace of its
// child, if it has one, is empty: the first process of a pid namespace becomes a
// zombie after all others (pid_namespaces(7)), and a pidfd tells when
// (pidfd_open(2)). Nothing writes into the temporary folder after that.
func kill(leader int) error {
	var fds []unix.PollFd
	for _, pid := range children(leader) {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			defer func() { _ = unix.Close(fd) }()
			fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}) //nolint:gosec // a descriptor is small
		}
	}
	if err := unix.Kill(-leader, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	deadline := time.Now().Add(endTimeout)
	for i := range fds {
		for {
			n, err := unix.Poll(fds[i:i+1], int(time.Until(deadline).Milliseconds()))
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				return err
			}
			if n == 0 {
				return fmt.Errorf("a killed build does not end within %s", endTimeout)
			}
			break
		}
	}
	return nil
}

// children are the child processes of pid (proc_pid_task(5)), none if it is gone.
func children(pid int) []int {
	id := strconv.Itoa(pid)
	list, err := os.ReadFile("/proc/" + id + "/task/" + id + "/children")
	if err != nil {
		return nil
	}
	var pids []int
	for _, s := range strings.Fields(string(list)) {
		if n, err := strconv.Atoi(s); err == nil {
			pids = append(pids, n)
		}
	}
	return pids
}
