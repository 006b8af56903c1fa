package dreamscape

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// object is the body of a request.
type object map[string]any

// ask sends a request and returns its answer. route is a method, a service and a path, such as
// "PATCH user-service/users/{userId}", whose placeholder id replaces. Another status than want is an error.
func ask[T any](ctx context.Context, j *journey, route, id string, body any, want int) (answer T, err error) {
	status, text, err := j.send(ctx, route, id, body)
	if err != nil {
		return answer, err
	}
	if status != want {
		return answer, fmt.Errorf("%s: expected %d, saw %s", route, want, shown(status, text))
	}
	if len(text) > 0 {
		err = json.Unmarshal(text, &answer)
	}
	if err != nil {
		return answer, fmt.Errorf("%s: the answer: %w", route, err)
	}
	return answer, nil
}

// command is ask where the answer does not matter.
func (j *journey) command(ctx context.Context, route, id string, body any, want int) error {
	_, err := ask[any](ctx, j, route, id, body, want)
	return err
}

// pollEvery is how long await waits between two looks.
const pollEvery = 10 * time.Millisecond

// await asks until the answer is as expected. It gives up when ctx ends, and when an event was dead-lettered: then nothing will come.
func await[T any](ctx context.Context, j *journey, route, id, expected string, ok func(T) bool) (answer T, err error) {
	var status int
	var text []byte
	err = j.poll(ctx, func() (missing string, err error) {
		if status, text, err = j.send(ctx, route, id, nil); err != nil {
			return "", err
		}
		var now T
		if status == http.StatusOK && json.Unmarshal(text, &now) == nil && ok(now) {
			answer = now
			return "", nil
		}
		return fmt.Sprintf("%s: expected %s, saw %s", route, expected, shown(status, text)), nil
	})
	return answer, err
}

// poll calls look until nothing is missing, it fails, or ctx ends; the error then says what is missing.
func (j *journey) poll(ctx context.Context, look func() (missing string, err error)) error {
	var last string
	for {
		missing, err := look()
		if err == nil && missing == "" {
			return nil
		}
		if err == nil {
			last = missing
		}
		if letter := j.ledger.deadLetter(); letter != "" {
			return fmt.Errorf("%s (%s)", letter, last)
		}
		if ctx.Err() != nil && last != "" {
			return fmt.Errorf("%s: %w", last, context.Cause(ctx))
		}
		if err != nil {
			return err
		}
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
		}
	}
}

var placeholder = regexp.MustCompile(`\{[a-zA-Z]+\}`)

func (j *journey) send(ctx context.Context, route, id string, body any) (status int, answer []byte, err error) {
	method, target, _ := strings.Cut(route, " ")
	name, path, _ := strings.Cut(target, "/")
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return 0, nil, fmt.Errorf("%s: %w", route, err)
		}
		content = bytes.NewReader(encoded)
	}
	url := j.fleet.service(name).URL() + "/" + placeholder.ReplaceAllString(path, id)
	req, err := http.NewRequestWithContext(ctx, method, url, content)
	if err != nil {
		return 0, nil, fmt.Errorf("%s: %w", route, err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := j.http.Do(req)
	if err != nil {
		return 0, nil, failed(ctx, route, err)
	}
	defer resp.Body.Close()
	if answer, err = io.ReadAll(resp.Body); err != nil {
		return 0, nil, failed(ctx, route, err)
	}
	return resp.StatusCode, bytes.TrimSpace(answer), nil
}

// failed says why a request ended without an answer: the end of ctx has a cause of its own.
func failed(ctx context.Context, route string, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("%s: %w", route, err)
}

// shown is an answer in an error.
func shown(status int, answer []byte) string {
	const most = 300
	if len(answer) > most {
		answer = append(bytes.Clone(answer[:most]), "…"...)
	}
	return fmt.Sprintf("%d %s", status, answer)
}
