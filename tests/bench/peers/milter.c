/* A milter as small as one can be: looks up the client, the reverse-path's domain and the forward-path's domain in a
 * set of a hundred names, and adds a header field at the end of data. Usage: milter SOCKET */

#include <libmilter/mfapi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { NAMES = 100 };
static char names[NAMES][32];

static int compare(const void *a, const void *b) { return strcasecmp(a, b); }

/* A binary search: the set is sorted. */
static int listed(const char *name) {
    char key[32];
    snprintf(key, sizeof key, "%s", name);
    return bsearch(key, names, NAMES, sizeof names[0], compare) != NULL;
}

static int domain_listed(const char *path) {
    const char *at = strrchr(path, '@');
    char domain[256];
    snprintf(domain, sizeof domain, "%s", at ? at + 1 : path);
    domain[strcspn(domain, ">")] = 0;
    return listed(domain);
}

static sfsistat on_connect(SMFICTX *context, char *host, _SOCK_ADDR *address) {
    (void)context, (void)address;
    return listed(host) ? SMFIS_REJECT : SMFIS_CONTINUE;
}

static sfsistat on_path(SMFICTX *context, char **arguments) {
    (void)context;
    return domain_listed(arguments[0]) ? SMFIS_REJECT : SMFIS_CONTINUE;
}

static sfsistat on_end(SMFICTX *context) {
    smfi_addheader(context, "X-Policy", "seen");
    return SMFIS_CONTINUE;
}

int main(int count, char **arguments) {
    if (count != 2) return 2;
    for (int n = 0; n < NAMES; n++) snprintf(names[n], sizeof names[n], "listed%d.bench.test", n);
    qsort(names, NAMES, sizeof names[0], compare);
    struct smfiDesc milter = {
        .xxfi_name = "bench",
        .xxfi_version = SMFI_VERSION,
        .xxfi_flags = SMFIF_ADDHDRS,
        .xxfi_connect = on_connect,
        .xxfi_envfrom = on_path,
        .xxfi_envrcpt = on_path,
        .xxfi_eom = on_end,
    };
    char socket[512];
    snprintf(socket, sizeof socket, "unix:%s", arguments[1]);
    umask(0);
    return smfi_register(milter) == MI_FAILURE || smfi_setconn(socket) == MI_FAILURE || smfi_main();
}
