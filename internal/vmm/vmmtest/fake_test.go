package vmmtest_test

import (
	"testing"

	"banger/internal/vmm/vmmtest"
)

func TestFakeConforms(t *testing.T) { vmmtest.Run(t, &vmmtest.Fake{}) }
