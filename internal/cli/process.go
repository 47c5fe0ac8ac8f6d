package cli

import (
	"cmp"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	bangerv1 "banger/api/banger/v1"
	guestv1 "banger/api/guest/v1"
	"banger/internal/base/errs"
	"banger/internal/guestabi"
	"banger/internal/vm"
)

// processFlags are what the caller says of a command in a guest. It counts more
// than what the VM's image says, and both more than the guest's own defaults.
type processFlags struct {
	user, dir     string
	env, envFiles []string
}

func (f *processFlags) register(flags *pflag.FlagSet) {
	flags.StringVarP(&f.user, "user", "u", "", "user to run as: a name or number, optionally with :group; without it the image's")
	flags.StringVarP(&f.dir, "workdir", "w", "", "working directory; without it the image's, or the user's home")
	flags.StringArrayVarP(&f.env, "env", "e", nil, "environment variable KEY=VALUE; KEY alone takes our own value")
	flags.StringArrayVar(&f.envFiles, "env-file", nil, "file of KEY=VALUE lines, which --env counts more than")
}

// request is a command as the flags and arguments have it, read and checked before
// anything is done.
type request struct {
	flags processFlags
	argv  []string
	// changes are those of the image's environment: see vm.ImageConfig.Environ.
	changes []string
}

// maxCommand bounds arguments and environment of a command, in bytes. With what the
// image adds they fit into one message.
const maxCommand = guestabi.MaxMessage - 2<<20

// request reads the environment's files and checks all sizes.
func (f processFlags) request(argv []string) (*request, error) {
	r := &request{flags: f, argv: argv}
	for _, name := range f.envFiles {
		lines, err := readEnvFile(name, os.LookupEnv)
		if err != nil {
			return nil, err
		}
		r.changes = append(r.changes, lines...)
	}
	for _, entry := range f.env {
		change, err := envChange(entry, os.LookupEnv)
		if err != nil {
			return nil, err
		}
		r.changes = append(r.changes, change)
	}
	size := 0
	for _, text := range slices.Concat(r.argv, r.changes) {
		size += len(text) + 8
	}
	if size > maxCommand {
		return nil, errs.New(errs.Invalid, "the command has %d bytes of arguments and environment, more than %d", size, maxCommand).
			WithHint("pass the data on standard input")
	}
	return r, nil
}

// start describes command in an image with this configuration; nil is one without,
// whose commands run as in a login.
func (r *request) start(config *vm.ImageConfig, command []string) *guestv1.ExecStart {
	start := &guestv1.ExecStart{Argv: asBytes(command), Env: asBytes(config.Environ(r.changes)), User: r.flags.user, Dir: r.flags.dir}
	if config == nil {
		return start
	}
	start.Plain = true
	start.User = cmp.Or(r.flags.user, config.User)
	start.MakeDirs = []string{config.Dir()}
	for _, folder := range config.Volumes {
		start.MakeDirs = append(start.MakeDirs, path.Join("/", folder))
	}
	start.Dir = config.Dir()
	if path.IsAbs(r.flags.dir) {
		start.Dir = r.flags.dir
	} else if r.flags.dir != "" {
		start.Dir = path.Join(config.Dir(), r.flags.dir)
	}
	return start
}

func asBytes(texts []string) [][]byte {
	return convert(texts, func(s string) []byte { return []byte(s) })
}

// stopSignal is how a VM's shutdown asks the image's own command to end.
func stopSignal(config *vm.ImageConfig) int32 {
	if config == nil {
		return 0
	}
	if s, err := vm.ParseSignal(config.StopSignal); err == nil {
		return int32(s)
	}
	return int32(syscall.SIGTERM)
}

// bangerInit is PID 1 of a VM whose image has no init.
const bangerInit = "banger-init"

// isItsInit says whether command is an init and v has booted into its image's: what
// the command asks for is there, and a second one could not run.
func isItsInit(v *bangerv1.VM, command []string) bool {
	return len(command) > 0 && v.GetInit() != bangerInit && slices.Contains([]string{"init", "systemd"}, path.Base(command[0]))
}

// lookup is os.LookupEnv.
type lookup func(key string) (value string, set bool)

// envChange completes KEY to KEY=VALUE from our own environment. A KEY that is not
// set here stays alone: the command shall not have it.
func envChange(entry string, ours lookup) (string, error) {
	key, _, whole := strings.Cut(entry, "=")
	if key == "" || strings.Contains(entry, "\x00") {
		return "", errs.New(errs.Invalid, "cannot read the variable %q", entry).WithHint("write it as KEY=VALUE")
	}
	if value, set := ours(key); set && !whole {
		return key + "=" + value, nil
	}
	return entry, nil
}
