package console_test

import (
	"context"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/bustest"
	"github.com/dreamscape/eventbus/console"
)

const letterTopic = "dreamscape.user.created.dlq.welcome"

var allowed = &console.Options{AllowRedrive: true, AllowPurge: true}

// fields are the hidden ones of the first form of an action.
func fields(t *testing.T, body, action string) url.Values {
	t.Helper()
	_, behind, found := strings.Cut(body, `method="post" action="`+action+`"`)
	require.True(t, found, "a form of %s", action)
	form, _, _ := strings.Cut(behind, "</form>")
	values := url.Values{}
	for _, field := range regexp.MustCompile(`<input type="hidden" name="([a-z]+)" value="([^"]*)">`).FindAllStringSubmatch(form, -1) {
		values.Set(field[1], field[2])
	}
	return values
}

// ask posts the first form of an action and returns the second.
func ask(t *testing.T, s *site, action string) (question string, confirm url.Values) {
	t.Helper()
	_, body := s.get("?letters=" + letterTopic)
	status, question := s.do(http.MethodPost, action, fields(t, body, action), nil)
	require.Equal(t, http.StatusOK, status, question)
	return question, fields(t, question, action)
}

func letterCount(t *testing.T, b *bustest.Bus) (n int) {
	t.Helper()
	letters, err := b.DeadLetters(eventbus.UserCreated, "welcome")
	require.NoError(t, err)
	for _, err := range letters.List(t.Context(), eventbus.LetterFilter{}) {
		require.NoError(t, err)
		n++
	}
	return n
}

func TestNothingIsChangedUnlessAllowed(t *testing.T) {
	b := journey(t)
	for _, opts := range []*console.Options{nil, {AllowRedrive: true}, {AllowPurge: true}} {
		s := open(t, b.Bus, opts)
		_, body := s.get("?letters=" + letterTopic)
		for action, allowed := range map[string]bool{"redrive": opts != nil && opts.AllowRedrive, "purge": opts != nil && opts.AllowPurge} {
			assert.Equal(t, allowed, strings.Contains(body, `action="`+action+`"`))
			if allowed {
				continue
			}
			status, says := s.do(http.MethodPost, action, url.Values{"topic": {letterTopic}, "token": {"x"}}, nil)
			assert.Equal(t, http.StatusForbidden, status)
			assert.Contains(t, says, "This console may not "+action)
		}
	}
}

func TestARedriveIsAskedTwice(t *testing.T) {
	b := journey(t)
	s := open(t, b.Bus, allowed)
	question, confirm := ask(t, s, "redrive")
	assert.Contains(t, question, "Send 2 dead letters back?")
	consumed := b.Metrics().DeadLettered
	require.EqualValues(t, 2, consumed, "asking sends nothing")

	status, location := s.do(http.MethodPost, "redrive", confirm, nil)
	require.Equal(t, http.StatusSeeOther, status)
	_, body := s.get(strings.TrimPrefix(location, "./"))
	assert.Contains(t, body, "2 letters sent back to the group.")
	until(t, "they were handled again, and given up again", func() bool { return b.Metrics().DeadLettered == 4 })

	status, says := s.do(http.MethodPost, "redrive", confirm, nil)
	assert.Equal(t, http.StatusForbidden, status)
	assert.Contains(t, says, "it was used already")
	_, body = s.get("?job=" + url.QueryEscape(`<b>forged</b>`))
	assert.NotContains(t, body, "forged", "a message is told by its id only")
}

func TestAPurgeDeletesWhatWasShown(t *testing.T) {
	b := journey(t)
	s := open(t, b.Bus, allowed)
	question, confirm := ask(t, s, "purge")
	assert.Contains(t, question, "Delete 2 dead letters for good?")
	assert.Equal(t, 2, letterCount(t, b))
	publish(t, b, t.Context(), "user-service", "bad-late")
	until(t, "one more came", func() bool { return b.Metrics().DeadLettered == 3 })
	require.Equal(t, 3, letterCount(t, b))

	status, location := s.do(http.MethodPost, "purge", confirm, nil)
	require.Equal(t, http.StatusSeeOther, status)
	_, body := s.get(strings.TrimPrefix(location, "./"))
	assert.Contains(t, body, "2 letters deleted.")
	assert.Equal(t, 1, letterCount(t, b), "what came later is kept")

	status, says := s.do(http.MethodPost, "purge", confirm, nil)
	assert.Equal(t, http.StatusForbidden, status)
	assert.Contains(t, says, "Nothing was done")
	assert.Equal(t, 1, letterCount(t, b))
}

func TestForgedRequestsAreRefused(t *testing.T) {
	b := journey(t)
	s, other := open(t, b.Bus, allowed), open(t, b.Bus, allowed)
	_, body := s.get("?letters=" + letterTopic)
	form := fields(t, body, "purge")
	_, confirm := ask(t, s, "purge")
	_, body = other.get("?letters=" + letterTopic)
	foreign := fields(t, body, "purge")
	_, redrive := ask(t, s, "redrive")
	with := func(values url.Values, name, value string) url.Values {
		changed := url.Values{}
		for k, v := range values {
			changed[k] = v
		}
		changed.Set(name, value)
		return changed
	}
	for name, c := range map[string]struct {
		form   url.Values
		header http.Header
	}{
		"from another site":           {confirm, http.Header{"Sec-Fetch-Site": {"cross-site"}}},
		"from a sibling":              {confirm, http.Header{"Sec-Fetch-Site": {"same-site"}}},
		"of another origin":           {confirm, http.Header{"Origin": {"https://evil.example"}}},
		"without a token":             {with(form, "token", ""), nil},
		"with another token":          {with(form, "token", "x.y"), nil},
		"of another console":          {foreign, nil},
		"a page's token as confirmed": {url.Values{"confirm": form["token"]}, nil},
		"a redrive's as a purge's":    {redrive, nil},
		"a token that was changed":    {with(confirm, "confirm", "e30."+strings.Split(confirm.Get("confirm"), ".")[1]), nil},
		"a confirmation as a page's":  {with(form, "token", confirm.Get("confirm")), nil},
	} {
		status, _ := s.do(http.MethodPost, "purge", c.form, c.header)
		assert.Equal(t, http.StatusForbidden, status, name)
	}
	assert.Equal(t, 2, letterCount(t, b))
	status, _ := s.do(http.MethodPost, "purge", confirm, http.Header{"Sec-Fetch-Site": {"same-origin"}})
	assert.Equal(t, http.StatusSeeOther, status, "and what none of them spent still counts")
}

func TestWhatIsNotThereIsNotDone(t *testing.T) {
	s := open(t, journey(t).Bus, allowed)
	_, body := s.get("?letters=" + letterTopic)
	token := fields(t, body, "redrive").Get("token")
	for _, form := range []url.Values{
		{"topic": {"no.such.dlq.group"}, "fingerprint": {"x"}},
		{"topic": {"dreamscape.user.created"}, "fingerprint": {"x"}},
		{"topic": {letterTopic}},
	} {
		form.Set("token", token)
		status, says := s.do(http.MethodPost, "redrive", form, nil)
		assert.Equal(t, http.StatusUnprocessableEntity, status)
		assert.Contains(t, says, "There is nothing to redrive")
	}
	status, says := s.do(http.MethodPost, "redrive", url.Values{"token": {token}, "topic": {letterTopic}, "fingerprint": {"0000000000000000"}}, nil)
	assert.Equal(t, http.StatusOK, status)
	assert.Contains(t, says, "No dead letter would be sent back")
	assert.NotContains(t, says, "<form")
}

func TestTokensEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := console.NewSeal()
		token := s.Sign("purge", 5*time.Minute)
		time.Sleep(5*time.Minute - time.Second)
		require.NoError(t, s.Open(token))
		time.Sleep(2 * time.Second)
		assert.ErrorContains(t, s.Open(token), "too old")
		assert.ErrorContains(t, s.Spend(token), "too old")
		again := s.Sign("purge", 5*time.Minute)
		require.NoError(t, s.Spend(again))
		assert.ErrorContains(t, s.Spend(again), "used already")
		time.Sleep(6 * time.Minute)
		assert.ErrorContains(t, s.Spend(again), "too old")
		require.NoError(t, s.Spend(s.Sign("purge", time.Minute)))
		assert.Equal(t, 1, s.Used(), "what has expired is not kept")
		for _, forged := range []string{"", ".", "e30", "e30.e30", "%.%", token + "x"} {
			assert.Error(t, s.Open(forged))
		}
	})
}

func TestARedriveThatIsUnderWayIsToldAndEndsWithTheConsole(t *testing.T) {
	b := journey(t)
	s := open(t, b.Bus, allowed)
	for i := range 30 {
		publish(t, b, t.Context(), "user-service", "bad-"+string(rune('a'+i)))
	}
	until(t, "given up", func() bool { return b.Metrics().DeadLettered == 32 })
	_, confirm := ask(t, s, "redrive")
	held := b.Fault(bustest.Fault{Request: bustest.Produce, Topic: eventbus.RetryTopic("dreamscape.user.created", "welcome"), Do: bustest.Silence()})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	posted := make(chan struct{})
	go func() { // a browser that leaves
		defer close(posted)
		r, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/ops/redrive", strings.NewReader(confirm.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if answer, err := s.Client().Do(r); err == nil {
			_ = answer.Body.Close()
		}
	}()
	held.Wait(1)
	cancel()
	<-posted
	_, body := s.get("")
	assert.Contains(t, body, "under way since")
	s.page.Close()
	held.Remove()
}
