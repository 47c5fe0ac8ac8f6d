package server

import (
	bangerv1 "banger/api/banger/v1"
	"banger/internal/vm"
)

func toConfig(c *vm.ImageConfig) *bangerv1.ImageConfig {
	if c == nil {
		return nil
	}
	return &bangerv1.ImageConfig{
		Env: c.Env, WorkingDir: c.WorkingDir, User: c.User, Entrypoint: c.Entrypoint, Cmd: c.Cmd,
		StopSignal: c.StopSignal, ExposedPorts: c.ExposedPorts, Volumes: c.Volumes, Labels: c.Labels,
	}
}

func fromConfig(m *bangerv1.ImageConfig) *vm.ImageConfig {
	if m == nil {
		return nil
	}
	return &vm.ImageConfig{
		Env: m.GetEnv(), WorkingDir: m.GetWorkingDir(), User: m.GetUser(), Entrypoint: m.GetEntrypoint(), Cmd: m.GetCmd(),
		StopSignal: m.GetStopSignal(), ExposedPorts: m.GetExposedPorts(), Volumes: m.GetVolumes(), Labels: m.GetLabels(),
	}
}
