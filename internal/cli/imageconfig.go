package cli

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	bangerv1 "banger/api/banger/v1"
	"banger/internal/dockerfile"
	"banger/internal/vm"
)

func fromConfig(m *bangerv1.ImageConfig) *vm.ImageConfig {
	if m == nil {
		return nil
	}
	return &vm.ImageConfig{
		Env: m.GetEnv(), WorkingDir: m.GetWorkingDir(), User: m.GetUser(), Entrypoint: m.GetEntrypoint(), Cmd: m.GetCmd(),
		StopSignal: m.GetStopSignal(), ExposedPorts: m.GetExposedPorts(), Volumes: m.GetVolumes(), Labels: m.GetLabels(),
	}
}

func toConfig(c *vm.ImageConfig) *bangerv1.ImageConfig {
	return &bangerv1.ImageConfig{
		Env: c.Env, WorkingDir: c.WorkingDir, User: c.User, Entrypoint: c.Entrypoint, Cmd: c.Cmd,
		StopSignal: c.StopSignal, ExposedPorts: c.ExposedPorts, Volumes: c.Volumes, Labels: c.Labels,
	}
}

// changedConfig is the configuration that instructions make; nil without any.
func changedConfig(instructions []string) (*bangerv1.ImageConfig, error) {
	if len(instructions) == 0 {
		return nil, nil
	}
	c := &vm.ImageConfig{}
	for _, instruction := range instructions {
		if err := dockerfile.Apply(c, instruction); err != nil {
			return nil, err
		}
	}
	return toConfig(c), nil
}

// configFields are what an image says of its processes, for people. Commands are
// lists, as a Dockerfile has them.
func configFields(m *bangerv1.ImageConfig) [][2]string {
	list := func(words []string) string {
		if len(words) == 0 {
			return ""
		}
		var out strings.Builder
		enc := json.NewEncoder(&out)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(words) // strings: it cannot fail
		return strings.TrimSpace(out.String())
	}
	fields := [][2]string{
		{"entrypoint", list(m.GetEntrypoint())},
		{"command", list(m.GetCmd())},
		{"user", m.GetUser()},
		{"workdir", m.GetWorkingDir()},
	}
	for _, entry := range m.GetEnv() {
		fields = append(fields, [2]string{"env", entry})
	}
	fields = append(fields, [][2]string{
		{"ports", strings.Join(m.GetExposedPorts(), ", ")},
		{"volumes", strings.Join(m.GetVolumes(), ", ")},
		{"stop signal", m.GetStopSignal()},
	}...)
	for _, key := range slices.Sorted(maps.Keys(m.GetLabels())) {
		fields = append(fields, [2]string{"label", key + "=" + m.GetLabels()[key]})
	}
	return fields
}
