// Package dockerfile reads the instructions of a Dockerfile that say how an image
// runs, one at a time, as "docker import --change" does: CMD, ENTRYPOINT, ENV,
// EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME and WORKDIR. Those that build an image
// are refused.
//
// The language is that of the Dockerfile reference (docs.docker.com/reference/dockerfile).
package dockerfile

import (
	"encoding/json"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"banger/internal/base/errs"
	"banger/internal/vm"
)

// defaultPath is what $PATH means to an image that has none (moby: DefaultPathEnv).
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// instructions are those that there are, by their names.
var instructions = map[string]func(c *vm.ImageConfig, rest string) error{
	"CMD":        func(c *vm.ImageConfig, rest string) (err error) { c.Cmd, err = command(rest); return err },
	"ENTRYPOINT": func(c *vm.ImageConfig, rest string) (err error) { c.Entrypoint, err = command(rest); return err },
	"ENV":        env,
	"EXPOSE":     expose,
	"LABEL":      label,
	"STOPSIGNAL": stopSignal,
	"USER":       func(c *vm.ImageConfig, rest string) (err error) { c.User, err = oneWord(c, rest); return err },
	"VOLUME":     volume,
	"WORKDIR":    workdir,
}

// Apply changes c as the instruction says. After an error c is as it was.
func Apply(c *vm.ImageConfig, instruction string) error {
	// A backslash at the end of a line continues it.
	line := strings.TrimSpace(strings.ReplaceAll(instruction, "\\\n", ""))
	name, rest := line, ""
	if end := strings.IndexAny(line, spaces); end >= 0 {
		name, rest = line[:end], strings.TrimSpace(line[end:])
	}
	do, known := instructions[strings.ToUpper(name)]
	if !known {
		return wrong("cannot apply %.200q to an image: unknown instruction %.50q", instruction, name).
			WithHint("use one of %s", strings.Join(slices.Sorted(maps.Keys(instructions)), ", "))
	}
	changed := *c
	err := do(&changed, rest)
	if err == nil {
		err = changed.Check()
	}
	if err != nil {
		return wrong("cannot apply %.200q to an image: %w", instruction, err)
	}
	*c = changed
	return nil
}

func wrong(format string, args ...any) *errs.Error { return errs.New(errs.Invalid, format, args...) }

// command reads the exec form, a JSON array, or the shell form, anything else.
func command(rest string) ([]string, error) {
	if rest == "" {
		return nil, wrong("it names no command").WithHint(`write it as CMD ["program", "argument"]`)
	}
	words, isArray, err := array(rest)
	if isArray || err != nil {
		return words, err
	}
	return []string{"/bin/sh", "-c", rest}, nil
}

// array reads a JSON array of strings. Docker takes one that is broken for a command
// of the shell; here that is refused, unless the brackets are the shell's own.
func array(rest string) (words []string, isArray bool, err error) {
	if !strings.HasPrefix(rest, "[") {
		return nil, false, nil
	}
	var list []string
	jsonErr := json.Unmarshal([]byte(rest), &list)
	switch {
	case jsonErr == nil:
		return list, true, nil
	case strings.HasPrefix(rest, "[ ") && !strings.Contains(rest, `"`) || !strings.HasSuffix(rest, "]"):
		return nil, false, nil
	}
	return nil, false, wrong("%q is not a list of strings: %w", rest, jsonErr).WithHint(`write it as ["first", "second"], with double quotes`)
}

// pairs reads KEY=VALUE words, or one "KEY the rest of the line".
func pairs(c *vm.ImageConfig, rest string) ([][2]string, error) {
	words, err := split(rest)
	if err != nil {
		return nil, err
	}
	if len(words) == 0 {
		return nil, wrong("it sets nothing").WithHint("write it as KEY=VALUE")
	}
	if !strings.Contains(words[0], "=") {
		key := words[0]
		words = []string{key + "=" + strings.TrimSpace(rest[len(key):])}
		if key == rest {
			return nil, wrong("%q has no value", key).WithHint("write it as %s=VALUE", key)
		}
	}
	var all [][2]string
	for _, word := range words {
		key, value, ok := strings.Cut(word, "=")
		if !ok {
			return nil, wrong("%q is not KEY=VALUE", word).WithHint(`put a value with spaces into quotes: KEY="a value"`)
		}
		if key, err = expand(c, key); err != nil {
			return nil, err
		}
		if value, err = expand(c, value); err != nil {
			return nil, err
		}
		if key == "" || strings.Contains(key, "=") {
			return nil, wrong("%q has no name", word).WithHint("write it as KEY=VALUE")
		}
		all = append(all, [2]string{key, value})
	}
	return all, nil
}

func env(c *vm.ImageConfig, rest string) error {
	all, err := pairs(c, rest)
	if err != nil {
		return err
	}
	var changes []string
	for _, p := range all {
		changes = append(changes, p[0]+"="+p[1])
	}
	c.Env = c.Environ(changes)
	return nil
}

func label(c *vm.ImageConfig, rest string) error {
	all, err := pairs(c, rest)
	if err != nil {
		return err
	}
	labels := map[string]string{}
	maps.Copy(labels, c.Labels)
	for _, p := range all {
		labels[p[0]] = p[1]
	}
	c.Labels = labels
	return nil
}

// maxPort is the highest port of TCP, UDP and SCTP.
const maxPort = 65535

// expose reads "80", "53/udp" and "8000-8010/tcp".
func expose(c *vm.ImageConfig, rest string) error {
	words, err := expandAll(c, rest)
	if err != nil {
		return err
	}
	ports := slices.Clone(c.ExposedPorts)
	for _, word := range words {
		numbers, protocol, ok := strings.Cut(strings.ToLower(word), "/")
		if !ok {
			protocol = "tcp"
		}
		from, to, isRange := strings.Cut(numbers, "-")
		if !isRange {
			to = from
		}
		first, firstErr := strconv.Atoi(from)
		last, lastErr := strconv.Atoi(to)
		if firstErr != nil || lastErr != nil || first < 1 || last < first || last > maxPort || !slices.Contains([]string{"tcp", "udp", "sctp"}, protocol) {
			return wrong("%q is not a port", word).WithHint("write it as 80, 53/udp or 8000-8010/tcp, with numbers from 1 to %d", maxPort)
		}
		for port := first; port <= last; port++ {
			ports = append(ports, strconv.Itoa(port)+"/"+protocol)
		}
	}
	c.ExposedPorts = unique(ports)
	return nil
}

func stopSignal(c *vm.ImageConfig, rest string) error {
	name, err := oneWord(c, rest)
	if err != nil {
		return err
	}
	if _, err := vm.ParseSignal(name); err != nil {
		return err
	}
	c.StopSignal = name
	return nil
}

func volume(c *vm.ImageConfig, rest string) error {
	words, isArray, err := array(rest)
	if err == nil && !isArray {
		words, err = expandAll(c, rest)
	}
	if err != nil {
		return err
	}
	if slices.Contains(words, "") || len(words) == 0 {
		return wrong("it names no folder").WithHint("write it as VOLUME /data")
	}
	c.Volumes = unique(slices.Concat(c.Volumes, words))
	return nil
}

// workdir sees a relative folder from the one before.
func workdir(c *vm.ImageConfig, rest string) error {
	dir, err := expand(c, rest)
	if err != nil {
		return err
	}
	if dir == "" {
		return wrong("it names no folder").WithHint("write it as WORKDIR /app")
	}
	if !path.IsAbs(dir) {
		dir = path.Join(c.Dir(), dir)
	}
	c.WorkingDir = path.Clean(dir)
	return nil
}

// oneWord is the one word of an instruction that has no more.
func oneWord(c *vm.ImageConfig, rest string) (string, error) {
	words, err := expandAll(c, rest)
	switch {
	case err != nil:
		return "", err
	case len(words) > 1:
		return "", wrong("it has %d words, and takes one", len(words)).WithHint("put spaces into quotes")
	case len(words) == 0 || words[0] == "":
		return "", wrong("its word is missing")
	}
	return words[0], nil
}

// unique returns list without repetitions, in its order.
func unique(list []string) []string {
	seen := map[string]bool{}
	return slices.DeleteFunc(list, func(s string) bool {
		again := seen[s]
		seen[s] = true
		return again
	})
}
