package main

import (
	"fmt"
	"os"
	"strings"
)

// programs returns the Go programs of a Markdown page, in order: the fenced
// blocks marked go that hold a package main.
func programs(page string) []string {
	var found []string
	for {
		_, rest, ok := strings.Cut(page, "\n```go\n")
		if !ok {
			return found
		}
		block, after, ok := strings.Cut(rest, "\n```\n")
		if !ok {
			return found
		}
		if block += "\n"; strings.Contains("\n"+block, "\npackage main\n") {
			found = append(found, block)
		}
		page = "\n```\n" + after
	}
}

// httpProgram returns the README's first program.
func httpProgram(path string) (string, error) {
	page, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	all := programs(string(page))
	if len(all) == 0 {
		return "", fmt.Errorf("%s holds no program", path)
	}
	return all[0], nil
}
