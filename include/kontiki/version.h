/* The version of Kontiki that these headers belong to. */
#ifndef KONTIKI_VERSION_H
#define KONTIKI_VERSION_H

#define KT_VERSION "0.1.0"

#endif
