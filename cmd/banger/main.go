// Banger gives a developer a virtual machine. This one binary is three
// processes: the command line, the user's daemon ("banger daemon serve") and the
// supervisor of one VM ("banger shim").
package main

import (
	"os"

	"banger/internal/cli"
	"banger/internal/daemon"
	"banger/internal/shim"
)

func main() {
	args := os.Args[1:]
	switch {
	case len(args) > 0 && args[0] == "shim":
		os.Exit(shim.Main())
	case len(args) > 1 && args[0] == "daemon" && args[1] == "serve":
		os.Exit(daemon.Main(args[2:]))
	}
	os.Exit(cli.Main(args))
}
