// Command poweroff is the init of the benchmark's bare guest: it switches the
// machine off and does nothing else.
package main

import "syscall"

func main() {
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
}
