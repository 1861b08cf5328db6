# cmake --install: binary, libraries, headers, pkg-config file, man page, completion.
install(TARGETS flextrace RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS libflextrace_static libflextrace_shared
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})

# One header to include; what it gathers lies beside it, in the rooms' folders.
install(FILES flextrace.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/flextrace)
foreach(room base text index model tracer api)
  file(GLOB headers ${room}/ft_*.h)
  install(FILES ${headers} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/flextrace/${room})
endforeach()
foreach(part train eval)
  file(GLOB headers model/${part}/ft_*.h)
  install(FILES ${headers} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/flextrace/model/${part})
endforeach()

list(JOIN packages " " FT_PC_REQUIRES)
configure_file(packaging/flextrace.pc.in ${CMAKE_BINARY_DIR}/flextrace.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/flextrace.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES packaging/flextrace.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES packaging/flextrace.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME flextrace)
