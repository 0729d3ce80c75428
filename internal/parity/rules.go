package parity

import (
	_ "embed"
	"fmt"
	"strings"
)

//go:embed RULES.md
var rulesMD string

// Rule is one row of RULES.md.
type Rule struct {
	ID    string // "D-7"
	Topic string // the heading above the row: "Decision"
	When  string // the condition
	Envoy string // what Envoy, or the product the topic names, does
	Ours  string // what meshtrace does
}

// Rules returns every row of RULES.md in the order of the page. The error names
// the line that is no row of four filled cells.
func Rules() ([]Rule, error) { return parseRules(rulesMD) }

// parseRules reads the tables whose first column is headed "id"; other tables
// and all prose are for readers.
func parseRules(page string) ([]Rule, error) {
	var (
		rules   []Rule
		topic   string
		inTable bool
	)
	for n, line := range strings.Split(page, "\n") {
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			topic = heading
		}
		row, ok := strings.CutPrefix(line, "| ")
		if !ok {
			inTable = inTable && strings.HasPrefix(line, "|---")
			continue
		}
		if strings.HasPrefix(row, "id |") {
			inTable = true
			continue
		}
		if !inTable {
			continue
		}
		cells := strings.Split(strings.TrimSuffix(row, " |"), " | ")
		if len(cells) != 4 || !strings.HasSuffix(row, " |") {
			return nil, fmt.Errorf("parity: RULES.md:%d: %d cells, want 4: %s", n+1, len(cells), line)
		}
		for _, c := range cells {
			if strings.TrimSpace(c) == "" {
				return nil, fmt.Errorf("parity: RULES.md:%d: an empty cell: %s", n+1, line)
			}
		}
		rules = append(rules, Rule{ID: cells[0], Topic: topic, When: cells[1], Envoy: cells[2], Ours: cells[3]})
	}
	return rules, nil
}
