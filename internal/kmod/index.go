package kmod

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Index returns the files that depmod(8) would make for the tree, by name. The
// files modules.symbols and modules.symbols.bin are not among them: they serve
// symbol_request() alone, which no driver for a virtual machine uses.
func (s *Set) Index() (map[string][]byte, error) {
	files := map[string][]byte{}
	var deps, aliases, builtins, builtinAliases []entry
	var dep, alias, softdep, devname strings.Builder
	alias.WriteString("# Aliases extracted from modules themselves.\n")
	softdep.WriteString("# Soft dependencies extracted from modules themselves.\n")
	devname.WriteString("# Device nodes to trigger on-demand module loading.\n")
	for i, m := range s.modules {
		line, err := s.depLine(m)
		if err != nil {
			return nil, err
		}
		dep.WriteString(line + "\n")
		deps = append(deps, entry{m.Name, line, uint32(i)})
		for _, a := range m.info.aliases {
			fmt.Fprintf(&alias, "alias %s %s\n", a, m.Name)
			aliases = append(aliases, entry{normalizeAlias(a), m.Name, uint32(i)})
		}
		for _, d := range m.info.softdeps {
			fmt.Fprintf(&softdep, "softdep %s %s\n", m.Name, d)
		}
		devname.WriteString(devnameLine(m))
	}
	for _, name := range s.builtin {
		builtins = append(builtins, entry{key: name})
	}
	for _, pair := range s.builtinAliases {
		builtinAliases = append(builtinAliases, entry{normalizeAlias(pair[0]), pair[1], 0})
	}
	files["modules.dep"] = []byte(dep.String())
	files["modules.alias"] = []byte(alias.String())
	files["modules.softdep"] = []byte(softdep.String())
	files["modules.devname"] = []byte(devname.String())
	for name, entries := range map[string][]entry{
		"modules.dep.bin": deps, "modules.alias.bin": aliases,
		"modules.builtin.bin": builtins, "modules.builtin.alias.bin": builtinAliases,
	} {
		files[name] = trie(entries)
	}
	return files, nil
}

// depLine returns a module's line of modules.dep: its file, and those of all that
// it depends on, directly or not, so that each stands before what it needs
// itself. modprobe loads them from the end.
func (s *Set) depLine(m Module) (string, error) {
	hard := ordering{set: s, state: map[string]visit{}, hardOnly: true}
	if err := hard.add(m.Name); err != nil {
		return "", err
	}
	line := m.Path + ":"
	for _, dep := range slices.Backward(hard.list[:len(hard.list)-1]) {
		line += " " + dep.Path
	}
	return line, nil
}

// normalizeAlias replaces hyphens by underscores as modprobe does before it looks
// an alias up: not between brackets, where they make a range.
func normalizeAlias(a string) string {
	b, inside := []byte(a), false
	for i, c := range b {
		switch {
		case c == '[':
			inside = true
		case c == ']':
			inside = false
		case c == '-' && !inside:
			b[i] = '_'
		}
	}
	return string(b)
}

// devnameLine returns a module's line of modules.devname, or "". systemd makes
// the node at boot, and the first to open it has the module loaded.
func devnameLine(m Module) string {
	var node, device string
	for _, a := range m.info.aliases {
		if n, ok := strings.CutPrefix(a, "devname:"); ok {
			node = n
		} else if d := deviceAlias.FindStringSubmatch(a); d != nil {
			device = d[1] + d[2] + d[3] + ":" + d[4]
		}
	}
	if node == "" || device == "" {
		return ""
	}
	return fmt.Sprintf("%s %s %s\n", m.Name, node, device)
}

// deviceAlias is the alias of one device; "block-major-7-*" is that of many.
var deviceAlias = regexp.MustCompile(`^(?:(c)har|(b)lock)-major-([0-9]{1,6})-([0-9]{1,6})$`)
