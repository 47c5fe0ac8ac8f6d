package statedb

import (
	"encoding/json"
	"fmt"
)

// jsonText and jsonOf store a part of a record as JSON; nil is ”.
func jsonText[T any](v *T) (string, error) {
	if v == nil {
		return "", nil
	}
	data, err := json.Marshal(v)
	return string(data), err
}

func jsonOf[T any](text string) (*T, error) {
	if text == "" {
		return nil, nil
	}
	v := new(T)
	if err := json.Unmarshal([]byte(text), v); err != nil {
		return nil, fmt.Errorf("a record that is stored as JSON: %w", err)
	}
	return v, nil
}
