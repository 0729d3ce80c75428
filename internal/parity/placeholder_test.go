package parity_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// newID is a request id that Envoy makes: a UUID of version 4 in lower case.
var newID = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// binding holds what the placeholders of a case stand for, learned from the answer.
type binding map[string]string

var placeholder = regexp.MustCompile(`\{\{([a-z0-9]+)(?::([a-z0-9#]+))?\}\}`)

// match tells whether got is want, in which {{…}} stand for ids that the proxy made:
// the same placeholder for the same id, another for another one.
func (b binding) match(got, want string) error {
	var pattern strings.Builder
	pattern.WriteString(`^`)
	var names []string
	end := 0
	for _, at := range placeholder.FindAllStringSubmatchIndex(want, -1) {
		pattern.WriteString(regexp.QuoteMeta(want[end:at[0]]))
		end = at[1]
		name, part := want[at[2]:at[3]], ""
		if at[4] >= 0 {
			part = want[at[4]:at[5]]
		}
		form, key, err := form(name, part)
		if err != nil {
			return err
		}
		pattern.WriteString("(" + form + ")")
		names = append(names, key)
	}
	pattern.WriteString(regexp.QuoteMeta(want[end:]) + `$`)
	found := regexp.MustCompile(pattern.String()).FindStringSubmatch(got)
	if found == nil {
		return fmt.Errorf("%q, want %q", got, want)
	}
	for i, key := range names {
		if err := b.bind(key, found[i+1]); err != nil {
			return fmt.Errorf("%q, want %q: %w", got, want, err)
		}
	}
	return nil
}

// form returns the pattern of a placeholder and the name of what it stands for.
func form(name, part string) (pattern, key string, err error) {
	switch {
	case name == "uuid4" && len(part) == 1:
		return `[0-9a-f]{8}-[0-9a-f]{4}-` + part + `[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`, "uuid4:" + part, nil
	case name == "trace" && part == "":
		return `[0-9a-f]{32}`, "trace", nil
	case name == "trace" && part == "low":
		return `[0-9a-f]{16}`, "trace:low", nil
	case name == "trace64" && part == "":
		return `[0-9a-f]{16}`, "trace64", nil
	case name == "span" && part != "":
		return `[0-9a-f]{16}`, "span:" + part, nil
	case name == "upstream" && part == "":
		return `[0-9.]+:[0-9]+`, "upstream", nil
	}
	return "", "", fmt.Errorf("placeholder {{%s:%s}} is none that this runner knows", name, part)
}

func (b binding) bind(key, value string) error {
	if strings.Trim(value, "0") == "" {
		return fmt.Errorf("{{%s}} is all zeros", key)
	}
	if old, ok := b[key]; ok && old != value {
		return fmt.Errorf("{{%s}} is %s and %s", key, old, value)
	}
	b[key] = value
	return nil
}

// check tells whether the placeholders agree with one another.
func (b binding) check() error {
	if low, ok := b["trace:low"]; ok && b["trace"] != "" && !strings.HasSuffix(b["trace"], low) {
		return fmt.Errorf("{{trace:low}} is %s, {{trace}} is %s", low, b["trace"])
	}
	seen := make(map[string]string)
	for key, value := range b {
		if strings.HasPrefix(key, "uuid4:") {
			value = value[:14] + "4" + value[15:] // the digit is no other id
			if first, ok := seen["uuid4"]; ok && first != value {
				return fmt.Errorf("two request ids were made: %s and %s", first, value)
			}
			seen["uuid4"] = value
			continue
		}
		if key == "trace:low" {
			continue
		}
		if other, ok := seen[value]; ok {
			keys := []string{key, other}
			slices.Sort(keys)
			return fmt.Errorf("{{%s}} and {{%s}} are both %s", keys[0], keys[1], value)
		}
		seen[value] = key
	}
	return nil
}
