// Program probe is the one file of an image made from scratch: it says how it was
// started, as JSON, or does what its last argument says.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
)

func main() {
	var err error
	switch word := os.Args[len(os.Args)-1]; {
	case word == "serve":
		serve()
	case strings.HasPrefix(word, "exit="):
		code, convErr := strconv.Atoi(strings.TrimPrefix(word, "exit="))
		if err = convErr; err == nil {
			os.Exit(code)
		}
	default:
		err = report()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

// serve ends by SIGQUIT only, and says so.
func serve() {
	signal.Ignore(syscall.SIGTERM, syscall.SIGHUP)
	quit := make(chan os.Signal, 1)
	signal.Notify(quit, syscall.SIGQUIT)
	fmt.Println("probe: serving")
	<-quit
	fmt.Println("probe: all is saved")
}

func report() error {
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	groups, err := os.Getgroups()
	if err != nil {
		return err
	}
	// The folders that programs expect, whatever the image has.
	modes := map[string]string{}
	for _, path := range []string{"/proc/self", "/sys/class", "/dev/null", "/dev/pts", "/etc/hosts", "/etc/hostname", "/run", "/tmp", "/root", "/data"} {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		modes[path] = info.Mode().String()
	}
	// By its name, as images log; a user without rights must be able to.
	out, err := os.OpenFile("/dev/stdout", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(map[string]any{
		"args": os.Args, "env": os.Environ(), "dir": dir, "uid": os.Getuid(), "gid": os.Getgid(), "groups": groups, "modes": modes,
	})
}
