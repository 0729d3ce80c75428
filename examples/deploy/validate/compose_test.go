package validate

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// composeFiles are the ways to start the compose files.
var composeFiles = map[string][]string{
	"one tier":  {"compose.yaml"},
	"two tiers": {"compose.yaml", "compose.tiers.yaml"},
}

// loadCompose reads files as Compose does, against its schema, without a variable of
// this process.
func loadCompose(t *testing.T, names ...string) *types.Project {
	t.Helper()
	var paths []string
	for _, name := range names {
		paths = append(paths, filepath.Join("..", name))
	}
	options, err := cli.NewProjectOptions(paths, cli.WithoutEnvironmentResolution)
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

// checkCompose loads every way to start the files; an unknown field is against
// Compose's schema.
func checkCompose(t *testing.T, b []byte) {
	t.Helper()
	if len(decodeAs[map[string]any](t, b)) == 0 {
		t.Error("the file is empty")
	}
	for way, names := range composeFiles {
		if p := loadCompose(t, names...); len(p.Services) == 0 {
			t.Errorf("%s: no services", way)
		}
	}
}
