/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pop3_words.c - everything POP3 says to a person, in each of its languages, and the one table from outcomes to words.
 *
 * Response codes are RFC 2449's (IN-USE, LOGIN-DELAY), 3206's (AUTH, SYS/TEMP, SYS/PERM) and 6856's (UTF8).  A session begins in
 * English, which is ASCII; others are UTF-8 (RFC 6856 section 3.2).
 *
 * fetchmail takes any -ERR at login that names neither a lock, nor "wait", nor one of two codes for a wrong password, and
 * may stop polling for good: English texts of temporary faults therefore say "wait" (DESIGN section 7).
 */
#include "net/pop3/pop3_private.h"

#include <stdio.h>

struct phrase {
	const char *status; /* "+OK " or "-ERR [CODE] " */
	const char *text[POP3_LANGUAGE_COUNT];
};

#define GOOD "+OK "
#define BAD "-ERR "
#define TEMP "-ERR [SYS/TEMP] "
#define PERM "-ERR [SYS/PERM] "

static const struct phrase phrases[] = {
	[POP3_W_BYE] = { GOOD, { "bye", "auf Wiedersehen" } },
	[POP3_W_BYE_DELETED] = { GOOD, { "bye, messages deleted: %1", "auf Wiedersehen, gelöschte Nachrichten: %1" } },
	[POP3_W_NAME_TAKEN] = { GOOD, { "now the password", "nun das Passwort" } },
	[POP3_W_ENTERED] = { GOOD, { "%1 messages (%2 octets)", "%1 Nachrichten (%2 Byte)" } },
	[POP3_W_CAPABILITIES] = { GOOD, { "capabilities follow", "es folgen die Fähigkeiten" } },
	[POP3_W_MECHANISMS] = { GOOD, { "mechanisms follow", "es folgen die Verfahren" } },
	[POP3_W_LIST] = { GOOD, { "%1 messages (%2 octets)", "%1 Nachrichten (%2 Byte)" } },
	[POP3_W_UIDL] = { GOOD, { "unique ids follow", "es folgen die Kennungen" } },
	[POP3_W_OCTETS] = { GOOD, { "%1 octets", "%1 Byte" } },
	[POP3_W_TOP] = { GOOD, { "top of message follows", "es folgt der Anfang der Nachricht" } },
	[POP3_W_DELETED] = { GOOD, { "message %1 marked as deleted", "Nachricht %1 zum Löschen vorgemerkt" } },
	[POP3_W_RESET] = { GOOD, { "%1 messages (%2 octets)", "%1 Nachrichten (%2 Byte)" } },
	[POP3_W_NOOP] = { GOOD, { "still here", "noch da" } },
	[POP3_W_UTF8] = { GOOD, { "UTF8 enabled", "UTF8 eingeschaltet" } },
	[POP3_W_LANGUAGE] = { GOOD, { "English spoken from now on", "ab jetzt auf Deutsch" } },
	[POP3_W_LANGUAGES] = { GOOD, { "languages follow", "es folgen die Sprachen" } },
	[POP3_W_ENVELOPE] = { GOOD, { "envelope follows", "es folgt der Umschlag" } },
	/* as the one known server of XTND says them */
	[POP3_W_XLST] = { GOOD, { "xlst command accepted; headers coming.", "es folgen die Kopfzeilen" } },
	[POP3_W_XMIT_GO] = { GOOD, { "Start sending message.", "nun die Nachricht" } },
	[POP3_W_XMIT_SENT] = { GOOD, { "Message sent successfully", "Nachricht ist abgeschickt" } },

	[POP3_W_TLS] = { GOOD, { "begin TLS now", "jetzt TLS beginnen" } },

	[POP3_W_UNKNOWN] = { BAD, { "unknown command", "unbekannter Befehl" } },
	[POP3_W_SYNTAX] = { BAD, { "wrong arguments", "falsche Argumente" } },
	[POP3_W_TOO_LONG] = { BAD, { "line too long", "Zeile zu lang" } },
	[POP3_W_BAD_BYTES] = { BAD, { "control characters in a command", "Steuerzeichen in einem Befehl" } },
	[POP3_W_NO_ARGUMENT] = { BAD, { "this command takes no argument", "dieser Befehl hat kein Argument" } },
	[POP3_W_LOGIN_FIRST] = { BAD, { "log in first", "erst anmelden" } },
	[POP3_W_LOGGED_IN] = { BAD, { "already logged in", "schon angemeldet" } },
	[POP3_W_TOO_MANY_BAD] = { BAD, { "too many bad commands, closing", "zu viele falsche Befehle, Verbindung wird beendet" } },
	[POP3_W_NUMBER] = { BAD, { "a message number is wanted", "es fehlt die Nummer einer Nachricht" } },
	[POP3_W_NO_MESSAGE] = { BAD, { "no such message, only %1 here", "keine solche Nachricht, nur %1 vorhanden" } },
	[POP3_W_IS_DELETED] = { BAD, { "message %1 is deleted", "Nachricht %1 ist gelöscht" } },
	[POP3_W_USER_FIRST] = { BAD, { "USER comes first", "zuerst USER" } },
	[POP3_W_APOP_OFF] = { BAD, { "APOP is not offered", "APOP wird nicht angeboten" } },
	[POP3_W_MECHANISM] = { BAD, { "no such mechanism", "kein solches Verfahren" } },
	[POP3_W_CANCELLED] = { BAD, { "cancelled", "abgebrochen" } },
	[POP3_W_BASE64] = { BAD, { "that was not base64 of what the mechanism wants", "das war nicht Base64 des Erwarteten" } },
	[POP3_W_WRONG] = { "-ERR [AUTH] ", { "wrong name or password", "Name oder Passwort falsch" } },
	[POP3_W_TOO_MANY_TRIES] = { "-ERR [AUTH] ", { "wrong name or password, too many tries", "Name oder Passwort falsch, zu viele Versuche" } },
	[POP3_W_LOGIN_DELAY] = { "-ERR [LOGIN-DELAY] ", { "logins too close together, wait %1 seconds between them",
							  "Anmeldungen zu dicht, bitte %1 Sekunden dazwischen warten" } },
	[POP3_W_NO_LANGUAGE] = { BAD, { "no such language", "keine solche Sprache" } },
	[POP3_W_NEEDS_UTF8] = { "-ERR [UTF8] ", { "this message needs UTF8 mode", "diese Nachricht braucht den UTF8-Modus" } },
	[POP3_W_TOO_BIG] = { BAD, { "that does not fit a line", "das passt in keine Zeile" } },
	[POP3_W_STOPPING] = { TEMP, { "server stops, please wait and try again", "Server hält an, bitte später wieder versuchen" } },
	[POP3_W_WITHDRAWN] = { "-ERR [AUTH] ", { "this account may not be used any more, nothing was deleted", "dieses Konto darf nicht mehr benutzt werden, nichts wurde gelöscht" } },
	[POP3_W_NOT_DELETED] = { TEMP, { "messages could not be deleted, please wait and try again",
					 "Nachrichten ließen sich nicht löschen, bitte später wieder versuchen" } },
	[POP3_W_LOST] = { "-ERR [IN-USE] ", { "the maildrop has passed to another session, nothing was deleted",
					      "das Postfach ging an eine andere Sitzung, nichts wurde gelöscht" } },
	[POP3_W_DENIED] = { "-ERR [AUTH] ", { "this account may not use POP3", "dieses Konto darf POP3 nicht benutzen" } },
	[POP3_W_IN_USE] = { "-ERR [IN-USE] ", { "maildrop is locked by another session, please wait and try again",
						"Postfach ist von einer anderen Sitzung gesperrt" } },
	[POP3_W_TEMPORARY] = { TEMP, { "temporary fault, please wait and try again", "vorübergehende Störung, bitte später wieder versuchen" } },
	[POP3_W_WAIT] = { TEMP, { "please wait and try again", "bitte später wieder versuchen" } },
	[POP3_W_BUSY] = { TEMP, { "server is busy, please wait and try again", "Server ist ausgelastet, bitte später wieder versuchen" } },
	[POP3_W_LIMIT] = { PERM, { "a limit of this server was reached", "eine Grenze dieses Servers ist erreicht" } },
	[POP3_W_FULL] = { TEMP, { "disk is full, please wait and try again", "Platte ist voll, bitte später wieder versuchen" } },
	[POP3_W_DAMAGED] = { PERM, { "this message is damaged", "diese Nachricht ist beschädigt" } },
	[POP3_W_TLS_FIRST] = { BAD, { "logins want TLS here: say STLS first", "Anmeldung hier nur mit TLS: zuerst STLS" } },
	[POP3_W_NO_CLEAR] = { BAD, { "logins in the clear are not taken here", "unverschlüsselte Anmeldungen werden hier nicht angenommen" } },
	[POP3_W_TLS_OFF] = { BAD, { "TLS is not offered here", "TLS wird hier nicht angeboten" } },
	[POP3_W_TLS_ON] = { BAD, { "TLS is on already", "TLS läuft schon" } },
	[POP3_W_TLS_LATE] = { BAD, { "STLS comes before UTF8", "STLS kommt vor UTF8" } },
	/* the names of limits are limit_word's */
	[POP3_W_GUESSING] = { TEMP, { "too many failed logins from your address (limit guessing), please wait and try again",
				      "zu viele falsche Anmeldungen von dieser Adresse (Grenze guessing), bitte später wieder versuchen" } },
	[POP3_W_SESSIONS_ACCOUNT] = { TEMP, { "too many sessions of this account (limit account), please wait and try again",
					      "zu viele Sitzungen dieses Kontos (Grenze account), bitte später wieder versuchen" } },
	[POP3_W_SESSIONS_TENANT] = { TEMP, { "too many sessions of this customer (limit tenant), please wait and try again",
					     "zu viele Sitzungen dieses Kunden (Grenze tenant), bitte später wieder versuchen" } },
	[POP3_W_READONLY] = { PERM, { "maildrop can only be read", "Postfach kann nur gelesen werden" } },
	[POP3_W_XTND_UNKNOWN] = { BAD, { "no such XTND command here", "kein solcher XTND-Befehl" } },
	[POP3_W_XLST_FEW] = { BAD, { "Too few arguments for the xtnd xlst command.", "zu wenige Argumente für XTND XLST" } },
	[POP3_W_XLST_MANY] = { BAD, { "Too many arguments for the xtnd xlst command.", "zu viele Argumente für XTND XLST" } },
	[POP3_W_XMIT_MANY] = { BAD, { "Too many arguments for the xtnd xmit command.", "zu viele Argumente für XTND XMIT" } },
	[POP3_W_XMIT_OFF] = { PERM, { "this server has nowhere to send mail to", "von hier aus kann keine Post verschickt werden" } },
	[POP3_W_XMIT_DOWN] = { TEMP, { "mail cannot be sent now, please wait and try again", "Post kann jetzt nicht verschickt werden, bitte später wieder versuchen" } },
	[POP3_W_XMIT_RATE] = { TEMP, { "more than %1 recipients within an hour, please wait and try again",
				       "mehr als %1 Empfänger in einer Stunde, bitte später wieder versuchen" } },
	[POP3_W_XMIT_TOO_BIG] = { PERM, { "not sent: larger than %1 octets", "nicht abgeschickt: größer als %1 Byte" } },
	[POP3_W_XMIT_BYTES] = { PERM, { "not sent: NUL, or CR and LF apart, in the message", "nicht abgeschickt: NUL oder einzelne CR und LF in der Nachricht" } },
	[POP3_W_XMIT_HEADER] = { PERM, { "not sent: the header is none", "nicht abgeschickt: fehlerhafter Kopf" } },
	[POP3_W_XMIT_ADDRESS] = { PERM, { "not sent: an address in the header is none", "nicht abgeschickt: fehlerhafte Adresse im Kopf" } },
	[POP3_W_XMIT_NOBODY] = { PERM, { "not sent: no recipient in To, Cc or Bcc", "nicht abgeschickt: kein Empfänger in To, Cc oder Bcc" } },
	[POP3_W_XMIT_TOO_MANY] = { PERM, { "not sent: more than %1 recipients", "nicht abgeschickt: mehr als %1 Empfänger" } },
	[POP3_W_XMIT_SENDER] = { PERM, { "not sent: the sender's address is not yours", "nicht abgeschickt: die Absenderadresse gehört nicht zu diesem Konto" } },
	[POP3_W_XMIT_RESENT] = { PERM, { "not sent: resent mail (Resent-To) is not taken", "nicht abgeschickt: weitergeleitete Post (Resent-To) wird nicht genommen" } },
	[POP3_W_XMIT_8BIT] = { PERM, { "not sent: the relay takes no 8-bit mail", "nicht abgeschickt: 8-Bit-Post wird nicht genommen" } },
	[POP3_W_XMIT_REFUSED] = { PERM, { "not sent: the message or a recipient was refused", "nicht abgeschickt: die Nachricht oder ein Empfänger wurde abgelehnt" } },
	[POP3_W_XMIT_LATER] = { TEMP, { "not sent for now, please wait and try again", "noch nicht abgeschickt, bitte später wieder versuchen" } },
	[POP3_W_XMIT_PART] = { PERM, { "sent to %1 of %2 recipients only, the others were refused", "nur an %1 von %2 Empfängern abgeschickt, die anderen wurden abgelehnt" } },
	[POP3_W_XMIT_PART_LATER] = { TEMP, { "sent to %1 of %2 recipients only, please wait and try the others again",
					     "nur an %1 von %2 Empfängern abgeschickt, bitte die anderen später wieder versuchen" } },
};
static_assert_c(ARRAY_LEN(phrases) == POP3_W_COUNT, "every word has a text");

static const uint8_t word_of[] = {
	[OK] = POP3_W_NOOP,
	[ERR_AGAIN] = POP3_W_TEMPORARY,
	[ERR_CLOSED] = POP3_W_TEMPORARY,
	[ERR_TIMEOUT] = POP3_W_TEMPORARY,
	[ERR_LIMIT] = POP3_W_LIMIT,
	[ERR_SYNTAX] = POP3_W_SYNTAX,
	[ERR_AUTH] = POP3_W_WRONG,
	[ERR_DENIED] = POP3_W_DENIED,
	[ERR_NOT_FOUND] = POP3_W_DAMAGED, /* a message that the view names is never "not there" */
	[ERR_EXISTS] = POP3_W_TEMPORARY,
	[ERR_QUOTA] = POP3_W_LIMIT,
	[ERR_FULL] = POP3_W_FULL,
	[ERR_IN_USE] = POP3_W_IN_USE,
	[ERR_BUSY] = POP3_W_BUSY,
	[ERR_IO] = POP3_W_TEMPORARY,
	[ERR_CORRUPT] = POP3_W_DAMAGED,
	[ERR_FENCED] = POP3_W_TEMPORARY,
	[ERR_READONLY] = POP3_W_READONLY,
	[ERR_TEMP] = POP3_W_WAIT,
	[ERR_CONFIG] = POP3_W_TEMPORARY,
};
static_assert_c(ARRAY_LEN(word_of) == ERR_COUNT, "every outcome has a word");

size_t pop3_expand(enum pop3_word w, enum pop3_language lang, uint64_t a, uint64_t b, char out[POP3_PHRASE_BYTES_MAX])
{
	size_t len = 0;
	for (const char *t = phrases[w].text[lang]; *t; t++) {
		ASSERT(len + 21 < POP3_PHRASE_BYTES_MAX);
		if (*t == '%')
			len += put_u64(out + len, *++t == '1' ? a : b);
		else
			out[len++] = *t;
	}
	return len;
}

void pop3_say(struct pop3_session *p, enum pop3_word w, uint64_t a, uint64_t b)
{
	char line[32 + POP3_PHRASE_BYTES_MAX];
	size_t len = strlen(phrases[w].status);
	memcpy(line, phrases[w].status, len);
	len += pop3_expand(w, (enum pop3_language)p->language, a, b, line + len);
	line[len++] = '\r';
	line[len++] = '\n';
	reply_put(&p->s.reply, slice_of(line, len));
}

size_t pop3_refused(enum limit limit, char *out)
{
	int len = snprintf(out, NET_REFUSAL_BYTES_MAX, TEMP "too many connections (limit %s), please wait and try again\r\n", limit_word(limit));
	ASSERT(len > 0 && (size_t)len < NET_REFUSAL_BYTES_MAX);
	return (size_t)len;
}

void pop3_fail(struct pop3_session *p, enum err e)
{
	ASSERT(e != OK && e < ERR_COUNT);
	pop3_word(p, (enum pop3_word)word_of[e]);
}
