package undo_test

import (
	"errors"
	"slices"
	"testing"

	"banger/internal/base/undo"
)

func TestRunGoesBackwardsThroughErrors(t *testing.T) {
	var s undo.Stack
	var order []int
	boom := errors.New("boom")
	for i := range 3 {
		s.Add(func() error {
			order = append(order, i)
			if i == 1 {
				return boom
			}
			return nil
		})
	}
	if err := s.Run(); !errors.Is(err, boom) {
		t.Errorf("Run() = %v, want boom", err)
	}
	if want := []int{2, 1, 0}; !slices.Equal(order, want) {
		t.Errorf("order = %v, want %v", order, want)
	}
	if err := s.Run(); err != nil {
		t.Errorf("a second Run() = %v, want nothing left", err)
	}
}

func TestReleasedStackDoesNothing(t *testing.T) {
	var s undo.Stack
	s.Add(func() error { t.Error("called"); return nil })
	s.Release()
	if err := s.Run(); err != nil {
		t.Error(err)
	}
}
