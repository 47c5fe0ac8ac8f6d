package vm

import (
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"banger/internal/base/errs"
)

// MaxImageConfig bounds an image's configuration, in bytes of all its texts. Those
// of common images have less than 10 KiB; the labels of build tools can be large.
const MaxImageConfig = 1 << 20

// ImageConfig is what an image says of the processes that run in it: the "config"
// object of an OCI image configuration (image-spec, config.md). The zero value says
// nothing, and a nil *ImageConfig stands for an image without any, such as one that
// was made of Debian packages.
//
// It was written by others: Check bounds it, and whoever prints it cleans it.
type ImageConfig struct {
	// Env are KEY=VALUE pairs; of two with the same key the last counts.
	Env []string `json:"env,omitempty"`
	// WorkingDir is where processes start; empty means "/".
	WorkingDir string `json:"working_dir,omitempty"`
	// User is a name or number of the image's, optionally with ":group"; empty means root.
	User string `json:"user,omitempty"`
	// Entrypoint and Cmd are what runs by itself; arguments of the caller's replace Cmd.
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
	// StopSignal asks the image's own command to end: a name or number; empty means SIGTERM.
	StopSignal string `json:"stop_signal,omitempty"`
	// ExposedPorts are "80/tcp": where the image's command listens.
	ExposedPorts []string `json:"exposed_ports,omitempty"`
	// Volumes are folders that the image's command expects to be there.
	Volumes []string          `json:"volumes,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
}

// Check refuses a configuration that is too large, or that no process could be given.
func (c *ImageConfig) Check() error {
	if c == nil {
		return nil
	}
	size := 0
	for _, text := range c.texts() {
		size += len(text)
		if !utf8.ValidString(text) || strings.Contains(text, "\x00") {
			return errs.New(errs.Invalid, "the image's configuration has a text that no process can be given: %.100q", text).
				WithHint("leave out NUL bytes and what is not UTF-8")
		}
	}
	if size > MaxImageConfig {
		return errs.New(errs.Invalid, "the image's configuration has %d bytes, more than %d", size, MaxImageConfig).WithHint("make its labels shorter")
	}
	return nil
}

func (c *ImageConfig) texts() []string {
	all := slices.Concat(c.Env, []string{c.WorkingDir, c.User, c.StopSignal}, c.Entrypoint, c.Cmd, c.ExposedPorts, c.Volumes)
	for key, value := range c.Labels {
		all = append(all, key, value)
	}
	return all
}

// ForVM is what a VM keeps of its image's configuration: what its processes need.
func (c *ImageConfig) ForVM() *ImageConfig {
	if c == nil {
		return nil
	}
	kept := *c
	kept.Labels = nil
	return &kept
}

// Command is what runs when the caller gives args: the entrypoint, then args, or
// Cmd without any. An entrypoint of the caller's takes the place of the image's,
// and Cmd, which was meant for that one, is left out; an empty one is none. (These
// are the rules of docker run.) An empty command means a shell.
func (c *ImageConfig) Command(entrypoint *string, args []string) []string {
	var image ImageConfig
	if c != nil {
		image = *c
	}
	if entrypoint != nil {
		image.Entrypoint, image.Cmd = []string{*entrypoint}, nil
	}
	if len(args) == 0 {
		args = image.Cmd
	}
	if len(image.Entrypoint) == 1 && image.Entrypoint[0] == "" {
		image.Entrypoint = nil
	}
	return slices.Concat(image.Entrypoint, args)
}

// Environ is the image's environment with the caller's changes: KEY=VALUE sets a
// variable, KEY alone takes it away. Each key comes once, where it came first. An
// entry of the image's that is not KEY=VALUE is left out.
func (c *ImageConfig) Environ(changes []string) []string {
	var env []string
	if c != nil {
		env = c.Env
	}
	var keys []string
	values := map[string]string{}
	for i, entry := range slices.Concat(env, changes) {
		key, _, whole := strings.Cut(entry, "=")
		if key == "" || !whole && i < len(env) {
			continue
		}
		if _, known := values[key]; !known {
			keys = append(keys, key)
		}
		values[key] = entry
	}
	var all []string
	for _, key := range keys {
		if entry := values[key]; entry != key {
			all = append(all, entry)
		}
	}
	return all
}

// Dir is the folder in which the image's processes start, from the root.
func (c *ImageConfig) Dir() string { return path.Join("/", c.WorkingDir) }
